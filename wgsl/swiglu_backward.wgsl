// Gradient of y = silu(gate) value for rows [gate | value] of 2 H: dgate = dy value silu'(gate), dvalue = dy silu(gate),
// with silu'(g) = s (1 + g (1 - s)), s = 1 / (1 + exp(-g)).
// An invocation owns one element of dy. FLOPs: 12 R H. Bytes: 20 R H.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= R * H) {
    return;
  }
  let at = i / H * 2u * H + i % H;
  let gate = x[at];
  let s = 1.0 / (1.0 + exp(-gate));
  dx[at] = dy[i] * x[at + H] * s * (1.0 + gate * (1.0 - s));
  dx[at + H] = dy[i] * gate * s;
}
