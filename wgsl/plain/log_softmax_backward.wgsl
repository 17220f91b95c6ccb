// dz = dl - exp(l) sum dl for ROWS rows of K = 4 QUADS, l = log softmax z. A workgroup owns one row and reads dl twice.
// FLOPs: 4 ROWS K. Bytes: 12 ROWS K.
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read> l: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> dl: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dz: array<vec4<f32>>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= ROWS) {
    return;
  }
  let base = row * QUADS;
  var sum = 0.0;
  for (var q = index; q < QUADS; q += WIDTH) {
    sum += dot(dl[base + q], vec4<f32>(1.0));
  }
  let total = wide_sum(index, sum);
  for (var q = index; q < QUADS; q += WIDTH) {
    dz[base + q] = dl[base + q] - exp(l[base + q]) * total;
  }
}
