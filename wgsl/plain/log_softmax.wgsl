// l = z - log sum exp z for ROWS rows of K = 4 QUADS. A workgroup owns one row and reads it twice.
// FLOPs: 8 ROWS K. Bytes: 8 ROWS K.
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read> z: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> l: array<vec4<f32>>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= ROWS) {
    return;
  }
  let base = row * QUADS;
  var largest = max_of_four(z[base + min(index, QUADS - 1u)]);
  var sum = 0.0;
  for (var q = index; q < QUADS; q += WIDTH) {
    let v = z[base + q];
    let larger = max(largest, max_of_four(v));
    sum = sum * exp(largest - larger) + dot(exp(v - larger), vec4<f32>(1.0));
    largest = larger;
  }
  let row_largest = wide_max(index, largest);
  let log_sum = row_largest + log(wide_sum(index, sum * exp(largest - row_largest)));
  for (var q = index; q < QUADS; q += WIDTH) {
    l[base + q] = z[base + q] - log_sum;
  }
}
