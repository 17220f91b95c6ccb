// out[i] = sum over p of partial[p][i], p from 0 to PARTS - 1 in order: the second stage of every split reduction.
// An invocation owns one of COUNT quads (single elements where they fill no quads). The parts are float32, out is stored
// as Result. FLOPs: PARTS elements. Bytes: 4 PARTS elements and out.
@group(0) @binding(0) var<storage, read> partial: array<Quad>;
@group(0) @binding(1) var<storage, read_write> out: array<Result>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT) {
    return;
  }
  var sum = unpack_quad(partial[FROM + i]);
  for (var p = 1u; p < PARTS; p++) {
    sum += unpack_quad(partial[FROM + p * COUNT + i]);
  }
  out[i] = pack_result(sum);
}
