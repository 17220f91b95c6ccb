enable subgroups;
// out[r] = sum over rows j of r's sequence of softmax_j(SCALE q[r] . k[j]) v[j], head by head: the same as attention.wgsl, for
// adapters that run on a CPU. Online softmax; own rows = queries, met rows = keys: see lib/attention_direct.wgsl.
// Saves lse [HEADS, T], the log of each row's sum of exponentials, for the backward pass.
// FLOPs: 4 HEAD_DIM HEADS sum(length^2). Bytes: 4 T HEADS HEAD_DIM times an element's, 4 T HEADS.
@group(0) @binding(0) var<storage, read> qkv: array<Quad>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
// include lib/attention_direct.wgsl

fn store_quad(at: u32, value: vec4<f32>) {
  out[at] = pack_quad(value);
}

// The largest value of each column.
fn peaks(m: mat4x4<f32>) -> vec4<f32> {
  let rows = transpose(m);
  return max(max(rows[0], rows[1]), max(rows[2], rows[3]));
}

fn max_over_lanes(value: vec4<f32>) -> vec4<f32> {
  var largest = value;
  for (var distance = 1u; distance < LANES; distance *= 2u) {
    largest = max(largest, subgroupShuffleXor(largest, distance));
  }
  return largest;
}

fn sum_over_lanes(value: vec4<f32>) -> vec4<f32> {
  var sum = value;
  for (var distance = 1u; distance < LANES; distance *= 2u) {
    sum += subgroupShuffleXor(sum, distance);
  }
  return sum;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= arrayLength(&tiles) * HEADS) {
    return;
  }
  let tile = tiles[index / HEADS];
  let head = index % HEADS;
  let own = rows_to_load(tile, lane);
  let q = vec2<u32>(q_at(own.x, head), q_at(own.y, head));
  let quads = quads_of_head();
  var sum = Columns();
  var largest = OwnedValue(vec4<f32>(LOWEST), vec4<f32>(LOWEST));
  // Of the lane's own keys; the lanes add up at the end.
  var total = OwnedValue();

  for (var first = tile.x; first < tile.y; first += 4u * LANES) {
    let met = rows_met(first, lane);
    let last = vec4<u32>(tile.y - 1u);
    let clamped = min(met, last);
    let k = vec4<u32>(k_at(clamped.x, head), k_at(clamped.y, head), k_at(clamped.z, head), k_at(clamped.w, head));
    var products = Owned();
    for (var d = 0u; d < quads; d++) {
      products = add_product(products, transpose(qkv_met(k + d)), qkv_owned(q + d));
    }
    let scores = scores_of(products, bias_of(met, tile.y));
    let next = OwnedValue(max(largest.low, max_over_lanes(peaks(scores.low))),
                          max(largest.high, max_over_lanes(peaks(scores.high))));
    let decay = OwnedValue(exp(largest.low - next.low), exp(largest.high - next.high));
    largest = next;
    let weights = weights_of(scores, largest);
    total.low = total.low * decay.low + vec4<f32>(1.0) * weights.low;
    total.high = total.high * decay.high + vec4<f32>(1.0) * weights.high;
    sum = scale_columns(sum, decay);
    let lanes = lanes_meeting(tile, first);
    for (var other = 0u; other < lanes; other++) {
      let rows = min(rows_met(first, other), last);
      let v = vec4<u32>(v_at(rows.x, head), v_at(rows.y, head), v_at(rows.z, head), v_at(rows.w, head));
      sum = add_qkv_rows(sum, v, lane, of_lane(weights, other));
    }
  }

  let rows = arrayLength(&lse) / HEADS;
  total = OwnedValue(sum_over_lanes(total.low), sum_over_lanes(total.high));
  sum = scale_columns(sum, OwnedValue(1.0 / total.low, 1.0 / total.high));
  let log_sum = OwnedValue(largest.low + log(total.low), largest.high + log(total.high));
  for (var row = tile.z; row < tile.w; row++) {
    let i = row - tile.z;
    store_row(sum, i, out_at(row, head), lane);
    if (lane == 0u) {
      lse[head * rows + row] = select(log_sum.low[i % 4u], log_sum.high[i % 4u], i > 3u);
    }
  }
}
