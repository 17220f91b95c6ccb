// delta[h, r] = d_out[r, h] . out[r, h]: what softmax's gradient subtracts in every row. out, d_out are [T, HEADS, HEAD_DIM].
// An invocation owns one head of one row. FLOPs: 2 T HEADS HEAD_DIM. Bytes: 2 T HEADS HEAD_DIM times an element's, 4 T HEADS.
@group(0) @binding(0) var<storage, read> out: array<Quad>;
@group(0) @binding(1) var<storage, read> d_out: array<Quad>;
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;
const QUADS: u32 = HEAD_DIM / 4u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= arrayLength(&delta)) {
    return;
  }
  var sum = vec4<f32>(0.0);
  for (var at = i * QUADS; at < (i + 1u) * QUADS; at++) {
    sum += unpack_quad(out[at]) * unpack_quad(d_out[at]);
  }
  let rows = arrayLength(&delta) / HEADS;
  delta[i % HEADS * rows + i / HEADS] = sum.x + sum.y + sum.z + sum.w;
}
