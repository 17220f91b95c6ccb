// Sinkhorn-Knopp, over samples: partial[part][k] = (m, s) with m + log s = log-sum-exp over the part's samples i of
// z[i][k] / tau + row_shift[i], for a tile of ROWS rows of K logits; used rows only. CONTINUED: after the samples of the
// tiles before, which partial holds. With FIRST, row_shift is 0 and not read. sinkhorn_column_join.wgsl joins the PARTS
// parts in order.
// An invocation owns one column of one part; neighbours own neighbouring columns; four rows are under way at once.
// FLOPs: 5 ROWS K. Bytes: 4 (ROWS K + 2 PARTS K), CONTINUED 4 (ROWS K + 4 PARTS K).
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> temperature: array<f32>;
@group(0) @binding(2) var<storage, read> count: array<u32>;
@group(0) @binding(3) var<storage, read> row_shift: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial: array<vec2<f32>>;
// include lib/used_rows.wgsl

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let k = id.x;
  let part = id.y;
  if (k >= K) {
    return;
  }
  let begin = part * tile.rows_per_part;
  let end = min(used_rows(), begin + tile.rows_per_part);
  let scale = 1.0 / temperature[0];
  var largest = 0.0;
  var sum = 0.0;
  if (CONTINUED) {
    let before = partial[part * K + k];
    largest = before.x;
    sum = before.y;
  }
  for (var first = begin; first < end; first += 4u) {
    let rows = first + vec4<u32>(0u, 1u, 2u, 3u);
    let inside = rows < vec4<u32>(end);
    let at = min(rows, vec4<u32>(end - 1u));
    let s = at * K + k;
    var x = vec4<f32>(logits[s.x], logits[s.y], logits[s.z], logits[s.w]) * scale;
    if (!FIRST) {
      x += vec4<f32>(row_shift[at.x], row_shift[at.y], row_shift[at.z], row_shift[at.w]);
    }
    var larger = max(max(x.x, x.y), max(x.z, x.w));
    if (sum > 0.0) {
      larger = max(larger, largest);
      sum *= exp(largest - larger);
    }
    sum += dot(select(vec4<f32>(0.0), exp(x - larger), inside), vec4<f32>(1.0));
    largest = larger;
  }
  partial[part * K + k] = vec2<f32>(largest, sum);
}
