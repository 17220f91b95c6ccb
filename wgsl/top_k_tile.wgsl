// Merges a tile of similarities [Q, T] into each query's best rows so far: values f32 and rows u32 [Q, K], best first, of
// equal values the lower row. tile = (first, valid): column c is row first + c, c < valid counts; first 0 starts new lists.
// A workgroup owns one query: values above its K-th are gathered in workgroup memory, which a bitonic sort orders whenever
// it may not hold the next CHUNK, and at the end. Rows are all different, so the order does not depend on who came first.
// parameters: Q, T, K. FLOPs: Q T comparisons. Bytes: 4 Q T, and 16 Q K at most.
@group(0) @binding(0) var<storage, read> similarities: array<f32>;
@group(0) @binding(1) var<storage, read> tile: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> rows: array<u32>;
@group(0) @binding(4) var<storage, read> parameters: array<u32>;

const PLACES = 4u * THREADS;
const CHUNK = 2u * THREADS;
// Below every similarity, behind every row.
const LOWEST = -3.4e38;
const NO_ROW = 0xffffffffu;

var<workgroup> held_value: array<f32, PLACES>;
var<workgroup> held_row: array<u32, PLACES>;
var<workgroup> found: atomic<u32>;
var<workgroup> settled: u32;

fn is_better(a: u32, b: u32) -> bool {
  return held_value[a] > held_value[b] || (held_value[a] == held_value[b] && held_row[a] < held_row[b]);
}

// Orders the first `used` places; every invocation must call this (it holds barriers).
fn sort(index: u32, used: u32) {
  var size = 2u;
  while (size < used) {
    size *= 2u;
  }
  for (var i = used + index; i < size; i += THREADS) {
    held_value[i] = LOWEST;
    held_row[i] = NO_ROW;
  }
  for (var run = 2u; run <= size; run *= 2u) {
    for (var gap = run / 2u; gap > 0u; gap /= 2u) {
      workgroupBarrier();
      for (var i = index; i < size / 2u; i += THREADS) {
        let low = 2u * gap * (i / gap) + i % gap;
        let high = low + gap;
        if (is_better(high, low) == ((low & run) == 0u)) {
          let value = held_value[low];
          let row = held_row[low];
          held_value[low] = held_value[high];
          held_row[low] = held_row[high];
          held_value[high] = value;
          held_row[high] = row;
        }
      }
    }
  }
  workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let query = group.y * groups.x + group.x;
  if (query >= parameters[0]) {
    return;
  }
  let line = query * parameters[1];
  let k = parameters[2];
  let first = tile[0];
  let valid = min(tile[1], parameters[1]);
  for (var i = index; i < k; i += THREADS) {
    var value = LOWEST;
    var row = NO_ROW;
    if (first > 0u) {
      value = values[query * k + i];
      row = rows[query * k + i];
    }
    held_value[i] = value;
    held_row[i] = row;
  }
  if (index == 0u) {
    atomicStore(&found, 0u);
  }
  workgroupBarrier();
  var threshold = held_value[k - 1u];
  var changed = first == 0u;
  for (var at = 0u; at < valid; at += CHUNK) {
    for (var c = at + index; c < min(at + CHUNK, valid); c += THREADS) {
      let value = similarities[line + c];
      // An equal value comes later, so it ranks behind what is kept.
      if (value > threshold) {
        let place = k + atomicAdd(&found, 1u);
        held_value[place] = value;
        held_row[place] = first + c;
      }
    }
    workgroupBarrier();
    if (index == 0u) {
      settled = atomicLoad(&found);
    }
    let candidates = workgroupUniformLoad(&settled);
    if (candidates > 0u && (k + candidates + CHUNK > PLACES || at + CHUNK >= valid)) {
      sort(index, k + candidates);
      threshold = held_value[k - 1u];
      changed = true;
      if (index == 0u) {
        atomicStore(&found, 0u);
      }
      workgroupBarrier();
    }
  }
  if (changed) {
    for (var i = index; i < k; i += THREADS) {
      values[query * k + i] = held_value[i];
      rows[query * k + i] = held_row[i];
    }
  }
}
