// out[n] = x[n] + scale[r] gamma branch[r] for rows n of N x D, D = 4 QUADS, r = inverse[n] (SUBSET; x[n] alone where no
// branch row was made from it) or n: the residual add of a block, with LayerScale (GAMMA) and stochastic depth's b/s as scale.
// A workgroup owns 256 quads, an invocation one. For R rows of the branch, FLOPs: 3 R D.
// Bytes: (2 N + R) D times an element's, 4 D with GAMMA, 4 (N + R) with SUBSET.
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> branch: array<Quad>;
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> inverse: array<u32>;
@group(0) @binding(4) var<storage, read> scale: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= N * QUADS) {
    return;
  }
  let c = i % QUADS;
  var r = i / QUADS;
  var factor = vec4<f32>(1.0);
  if (SUBSET) {
    r = inverse[r];
    if (r == NONE) {
      out[i] = x[i];
      return;
    }
    factor *= scale[r];
  }
  if (GAMMA) {
    factor *= gamma[c];
  }
  out[i] = pack_quad(unpack_quad(x[i]) + factor * unpack_quad(branch[r * QUADS + c]));
}
