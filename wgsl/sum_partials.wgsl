// out[i] = sum over p of partial[p][i], p from 0 to PARTS - 1 in order: the second stage of every split reduction.
// An invocation owns one of COUNT elements. FLOPs: PARTS COUNT. Bytes: 4 (PARTS + 1) COUNT.
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT) {
    return;
  }
  var sum = 0.0;
  for (var p = 0u; p < PARTS; p++) {
    sum += partial[FROM + p * COUNT + i];
  }
  out[i] = sum;
}
