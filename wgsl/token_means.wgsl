// out[s] = mean over TOKENS rows of x[s LENGTH + FIRST + t], rows of D = 4 QUADS: the mean patch token of every sequence,
// in float32. A sequence is FIRST tokens that do not count (CLS, registers), then the patches.
// A workgroup owns COLUMN_LANES quads of one sequence.
// FLOPs: TOKENS D a sequence. Bytes: those of the patch tokens and of out.
// include lib/columns.wgsl
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(COLUMN_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let c = group.x * COLUMN_LANES + index % COLUMN_LANES;
  let sequence = group.y;
  var sum = vec4<f32>();
  if (c < QUADS) {
    for (var t = index / COLUMN_LANES; t < TOKENS; t += ROW_LANES) {
      sum += unpack_quad(x[(sequence * LENGTH + FIRST + t) * QUADS + c]);
    }
  }
  sum = column_sum(index, sum);
  if (c < QUADS && index < COLUMN_LANES) {
    out[sequence * QUADS + c] = sum / f32(TOKENS);
  }
}
