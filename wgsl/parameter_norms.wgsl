// norms[p] = L2 norm of parameter p's gradient without the loss scale, unusable[p] = 1 where an element of it is not finite
// (else 0): the second stage after norm_partials. parameters [P] = (first chunk, end chunk).
// A workgroup owns one parameter. FLOPs: 2 a chunk. Bytes: 8 a chunk, 16 a parameter.
// include lib/rows.wgsl
// include lib/loss_scale.wgsl
@group(0) @binding(0) var<storage, read> partial: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> parameters: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> state: LossScale;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> unusable: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let p = group.y * groups.x + group.x;
  let chunks = parameters[min(p, P - 1u)];
  var sum = vec2<f32>();
  for (var k = chunks.x + lane; k < chunks.y; k += 64u) {
    sum += partial[k];
  }
  let squares = row_sum(lane, sum.x);
  let count = row_sum(lane, sum.y);
  if (lane == 0u && p < P) {
    norms[p] = sqrt(squares) * state.inverse;
    unusable[p] = u32(count > 0.0);
  }
}
