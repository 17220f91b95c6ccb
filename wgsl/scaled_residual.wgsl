// out[n] = x[n] + scale[r] gamma branch[r] for rows n of N x D, r = inverse[n] (SUBSET; x[n] alone where no branch row was
// made from it) or n: the residual add of a block, with LayerScale (GAMMA) and stochastic depth's b/s as scale.
// An invocation owns one element. FLOPs: 3 N D. Bytes: 12 N D.
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> branch: array<f32>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> inverse: array<u32>;
@group(0) @binding(4) var<storage, read> scale: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= N * D) {
    return;
  }
  let d = i % D;
  var r = i / D;
  var factor = 1.0;
  if (SUBSET) {
    r = inverse[r];
    if (r == NONE) {
      out[i] = x[i];
      return;
    }
    factor = scale[r];
  }
  if (GAMMA) {
    factor *= gamma[d];
  }
  out[i] = x[i] + factor * branch[r * D + d];
}
