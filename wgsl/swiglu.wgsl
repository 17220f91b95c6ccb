// y = silu(gate) value for R rows [gate | value] of 2 H, H = 4 QUADS: the SwiGLU feed-forward's activation (spec §1.3).
// A workgroup owns 256 quads of y, an invocation one. FLOPs: 6 R H. Bytes: 3 R H times an element's.
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> y: array<Quad>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= R * QUADS) {
    return;
  }
  let at = i / QUADS * 2u * QUADS + i % QUADS;
  let gate = unpack_quad(x[at]);
  y[i] = pack_quad(gate / (1.0 + exp(-gate)) * unpack_quad(x[at + QUADS]));
}
