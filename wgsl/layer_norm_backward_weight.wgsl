// Partial sums of layer-norm's weight and bias gradients: partial[0][p][c] = sum of dy * xhat, partial[1][p][c] = sum of
// dy, over the rows of part p of R rows of D = 4 QUADS. column_sum_partials.wgsl adds the PARTS parts.
// A workgroup owns COLUMN_LANES quads of columns of one part.
// FLOPs: 5 R D. Bytes: 2 R D times an element's, 8 PARTS D + 8 R, and 4 R more with GATHER.
// include lib/columns.wgsl
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> dy: array<Quad>;
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;

@compute @workgroup_size(COLUMN_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let c = group.x * COLUMN_LANES + index % COLUMN_LANES;
  let part = group.y;
  var dweight = vec4<f32>();
  var dbias = vec4<f32>();
  if (c < QUADS) {
    let end = min(R, (part + 1u) * ROWS_PER_PART);
    for (var r = part * ROWS_PER_PART + index / COLUMN_LANES; r < end; r += ROW_LANES) {
      var source = r;
      if (GATHER) {
        source = rows[r];
      }
      let s = statistics[r];
      let g = unpack_quad(dy[r * QUADS + c]);
      dweight += g * (unpack_quad(x[source * QUADS + c]) - s.x) * s.y;
      dbias += g;
    }
  }
  dweight = column_sum(index, dweight);
  dbias = column_sum(index, dbias);
  if (c < QUADS && index < COLUMN_LANES) {
    partial[part * QUADS + c] = dweight;
    partial[(PARTS + part) * QUADS + c] = dbias;
  }
}
