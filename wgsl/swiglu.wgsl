// y = silu(gate) value for rows [gate | value] of 2 H: the SwiGLU feed-forward's activation (spec §1.3).
// An invocation owns one element of y. FLOPs: 6 R H. Bytes: 12 R H.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= R * H) {
    return;
  }
  let at = i / H * 2u * H + i % H;
  let gate = x[at];
  y[i] = gate / (1.0 + exp(-gate)) * x[at + H];
}
