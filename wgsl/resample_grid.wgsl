// A separable linear map of a token grid: out[1 + y OUT_W + x] = sum over j, i of rows[y][j] columns[x][i] in[1 + j IN_W + i],
// out[0] = in[0] (the CLS position). Resizes position embeddings; with the transposed matrices it is its own gradient.
// rows [OUT_H, IN_H] and columns [OUT_W, IN_W] are dense but banded: ranges holds, for each of their lines, the first
// column that is not zero and the one past the last. An invocation owns one element of D columns.
// FLOPs: 4 taps² per element. Bytes: about 8 per element (taps hit caches).
@group(0) @binding(0) var<storage, read> grid: array<f32>;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read> columns: array<f32>;
@group(0) @binding(3) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= (1 + OUT_H * OUT_W) * D) {
    return;
  }
  let d = i % D;
  if (i < D) {
    out[i] = grid[i];
    return;
  }
  let y = (i / D - 1u) / OUT_W;
  let x = (i / D - 1u) % OUT_W;
  let across = ranges[OUT_H + x];
  var sum = 0.0;
  for (var j = ranges[y].x; j < ranges[y].y; j++) {
    var line = 0.0;
    for (var k = across.x; k < across.y; k++) {
      line += columns[x * IN_W + k] * grid[(1u + j * IN_W + k) * D + d];
    }
    sum += rows[y * IN_H + j] * line;
  }
  out[i] = sum;
}
