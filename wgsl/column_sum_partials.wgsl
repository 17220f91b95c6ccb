// Partial column sums of x [R, D], D = 4 QUADS, which begins FROM quads into its binding: partial[p][c] = sum of x[r, c]
// over the rows of part p. The same kernel then adds the parts. A workgroup owns COLUMN_LANES quads of columns of one part.
// FLOPs: R D. Bytes: R D times an element's, 4 PARTS D.
// include lib/columns.wgsl
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> partial: array<vec4<f32>>;

@compute @workgroup_size(COLUMN_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let c = group.x * COLUMN_LANES + index % COLUMN_LANES;
  let part = group.y;
  var sum = vec4<f32>();
  if (c < QUADS) {
    let end = min(R, (part + 1u) * ROWS_PER_PART);
    for (var r = part * ROWS_PER_PART + index / COLUMN_LANES; r < end; r += ROW_LANES) {
      sum += unpack_quad(x[FROM + r * QUADS + c]);
    }
  }
  sum = column_sum(index, sum);
  if (c < QUADS && index < COLUMN_LANES) {
    partial[part * QUADS + c] = sum;
  }
}
