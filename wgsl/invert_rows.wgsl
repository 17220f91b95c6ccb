// inverse[index[r]] = r for r < count, NONE elsewhere: where each of N source rows went. Two dispatches: with FILL, every
// row becomes NONE; without, the R index entries are scattered. Each source row may occur once, so no two writes meet.
// count[0] (with COUNTED) or R rows are live. An invocation owns one element. FLOPs: none. Bytes: 4 N, then 8 R.
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> index: array<u32>;
@group(0) @binding(1) var<storage, read> count: array<u32>;
@group(0) @binding(2) var<storage, read_write> inverse: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (FILL) {
    if (i < N) {
      inverse[i] = NONE;
    }
    return;
  }
  var live: u32 = R;
  if (COUNTED) {
    live = min(live, count[0]);
  }
  if (i < live && index[i] < N) {
    inverse[index[i]] = i;
  }
}
