// deviation[c] = sqrt(mean over r of (x[r][c] - mean[c])^2) / D for R rows of D = 4 QUADS values: each column's share of
// the mean standard deviation, in float32. Two passes over the rows.
// A workgroup owns COLUMN_LANES quads of columns. FLOPs: 4 R D. Bytes: those of x and of deviation.
// include lib/columns.wgsl
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> deviation: array<vec4<f32>>;
var<workgroup> means: array<vec4<f32>, COLUMN_LANES>;

@compute @workgroup_size(COLUMN_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let lane = index % COLUMN_LANES;
  let c = group.x * COLUMN_LANES + lane;
  // Past the last column there is nothing to add, but every invocation must reach the barriers.
  let rows = select(0u, u32(R), c < QUADS);
  var sum = vec4<f32>();
  for (var r = index / COLUMN_LANES; r < rows; r += ROW_LANES) {
    sum += unpack_quad(x[r * QUADS + c]);
  }
  sum = column_sum(index, sum);
  if (index < COLUMN_LANES) {
    means[lane] = sum / f32(R);
  }
  workgroupBarrier();
  let mean = means[lane];
  var squares = vec4<f32>();
  for (var r = index / COLUMN_LANES; r < rows; r += ROW_LANES) {
    let d = unpack_quad(x[r * QUADS + c]) - mean;
    squares += d * d;
  }
  squares = column_sum(index, squares);
  if (c < QUADS && index < COLUMN_LANES) {
    deviation[c] = sqrt(squares / f32(R)) / f32(4 * QUADS);
  }
}
