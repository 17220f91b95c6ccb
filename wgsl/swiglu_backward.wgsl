// Gradient of y = silu(gate) value for R rows [gate | value] of 2 H, H = 4 QUADS: dgate = dy value silu'(gate), dvalue =
// dy silu(gate), with silu'(g) = s (1 + g (1 - s)), s = 1 / (1 + exp(-g)).
// A workgroup owns 256 quads of dy, an invocation one. FLOPs: 12 R H. Bytes: 5 R H times an element's.
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> dy: array<Quad>;
@group(0) @binding(2) var<storage, read_write> dx: array<Quad>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= R * QUADS) {
    return;
  }
  let at = i / QUADS * 2u * QUADS + i % QUADS;
  let gate = unpack_quad(x[at]);
  let d = unpack_quad(dy[i]);
  let s = 1.0 / (1.0 + exp(-gate));
  dx[at] = pack_quad(d * unpack_quad(x[at + QUADS]) * s * (1.0 + gate * (1.0 - s)));
  dx[at + QUADS] = pack_quad(d * gate * s);
}
