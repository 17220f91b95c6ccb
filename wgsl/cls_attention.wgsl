// weights[s, h, j] = softmax over j of q[s, 0, h] . k[s, j, h] / sqrt(head dim): how much CLS, token 0 of a sequence, attends to
// each token of it, in float32. qkv [rows, 3, heads, head dim]; sequences of one length, one behind the other from a first row
// on. Sizes come at run time.
// A workgroup owns one head of one sequence, an invocation every THREADS-th token, whose score waits in `weights`.
// FLOPs: 2 D + 6 heads a token. Bytes: the keys and weights of all tokens, one q a sequence.
@group(0) @binding(0) var<storage, read> qkv: array<Quad>;
@group(0) @binding(1) var<storage, read_write> weights: array<f32>;
// heads, quads of a head, length, sequences times heads, first row.
@group(0) @binding(2) var<storage, read> sizes: array<u32, 5>;

const THREADS: u32 = 64u;
var<workgroup> query: array<vec4<f32>, MAX_QUADS>;
var<workgroup> scratch: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let heads = sizes[0];
  let quads = sizes[1];
  let length = sizes[2];
  let at = group.y * groups.x + group.x;
  if (at >= sizes[3]) {
    return;
  }
  let width = heads * quads;
  let first = (sizes[4] + (at / heads) * length) * 3u * width + (at % heads) * quads;
  for (var c = lane; c < quads; c += THREADS) {
    query[c] = unpack_quad(qkv[first + c]) * inverseSqrt(4.0 * f32(quads));
  }
  workgroupBarrier();

  var largest = -3.4e38;
  for (var j = lane; j < length; j += THREADS) {
    let key = first + j * 3u * width + width;
    var score = 0.0;
    for (var c = 0u; c < quads; c++) {
      score += dot(query[c], unpack_quad(qkv[key + c]));
    }
    weights[at * length + j] = score;
    largest = max(largest, score);
  }
  scratch[lane] = largest;
  for (var step = THREADS / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) {
      scratch[lane] = max(scratch[lane], scratch[lane + step]);
    }
  }
  workgroupBarrier();
  largest = scratch[0];
  workgroupBarrier();

  var sum = 0.0;
  for (var j = lane; j < length; j += THREADS) {
    let weight = exp(weights[at * length + j] - largest);
    weights[at * length + j] = weight;
    sum += weight;
  }
  scratch[lane] = sum;
  for (var step = THREADS / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) {
      scratch[lane] += scratch[lane + step];
    }
  }
  workgroupBarrier();
  sum = scratch[0];
  for (var j = lane; j < length; j += THREADS) {
    weights[at * length + j] /= sum;
  }
}
