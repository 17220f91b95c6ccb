// ranks[branch][first + i] = position of item i in a random permutation of its group: the number of items with a smaller
// random key (ties: smaller index). Keys: Philox at counter (i, branch * GROUPS + group, step = seed[2], STREAM).
// groups [GROUPS] = (first, size, end, 0); items from size up to end are padding and get NONE. ranks is [BRANCHES, PITCH].
// A workgroup owns 256 items of one group of one branch and reads the group's keys tile by tile.
// FLOPs: 2 size an item. Bytes: 4 an item.
// include lib/philox.wgsl
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> seed: array<u32>;
@group(0) @binding(1) var<storage, read> groups: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> ranks: array<u32>;

var<workgroup> keys: array<u32, 256>;

fn key_of(item: u32, branch: u32, group: u32) -> u32 {
  return philox4x32(vec4<u32>(item, branch * GROUPS + group, seed[2], STREAM), vec2<u32>(seed[0], seed[1])).x;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let branch = id.y;
  let first = groups[id.z].x;
  let size = groups[id.z].y;
  let end = groups[id.z].z;
  let item = id.x * 256u + lane;
  let key = key_of(item, branch, id.z);
  var rank = 0u;
  for (var tile = 0u; tile < size; tile += 256u) {
    workgroupBarrier();
    keys[lane] = key_of(tile + lane, branch, id.z);
    workgroupBarrier();
    let count = min(256u, size - tile);
    for (var j = 0u; j < count; j++) {
      rank += u32(keys[j] < key || (keys[j] == key && tile + j < item));
    }
  }
  if (item < size) {
    ranks[branch * PITCH + first + item] = rank;
  } else if (item < end) {
    ranks[branch * PITCH + first + item] = NONE;
  }
}
