// Which token rows every residual branch keeps under stochastic depth (specification 1.6), all branches at once.
// A sequence with rank r is kept where r < s; its token t is then row start + r * length + t of the kept matrix.
// groups [GROUPS] = (first row, first sequence, length, end row); kept [BRANCHES, GROUPS] = (s, start).
// Writes index[branch][kept row] = row and inverse[branch][row] = kept row, or NONE where dropped.
// An invocation owns one of N rows of one branch. FLOPs: none. Bytes: 4 (N + kept rows + sequences) a branch.
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> ranks: array<u32>;
@group(0) @binding(1) var<storage, read> groups: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> kept: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> index: array<u32>;
@group(0) @binding(4) var<storage, read_write> inverse: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  let branch = id.y;
  if (row >= N) {
    return;
  }
  var g = 0u;
  while (row >= groups[g].w) {
    g++;
  }
  let length = groups[g].z;
  let offset = row - groups[g].x;
  let rank = ranks[branch * RANK_PITCH + groups[g].y + offset / length];
  let keep = kept[branch * GROUPS + g];
  var made = NONE;
  if (rank < keep.x) {
    made = keep.y + rank * length + offset % length;
    index[branch * INDEX_PITCH + made] = row;
  }
  inverse[branch * INVERSE_PITCH + row] = made;
}
