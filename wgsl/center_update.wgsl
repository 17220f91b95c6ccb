// center[k] = MOMENTUM center[k] + (1 - MOMENTUM) mean[k], the mean over the used rows from partial[part][k] = sums
// over PARTS parts. Without a used row there is no mean and the center stays.
// An invocation owns one of K prototypes. FLOPs: (PARTS + 4) K. Bytes: 4 (PARTS + 2) K.
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read> count: array<u32>;
@group(0) @binding(2) var<storage, read_write> center: array<f32>;
// include lib/used_rows.wgsl

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let k = id.x;
  let used = used_rows();
  if (k >= K || used == 0u) {
    return;
  }
  var sum = 0.0;
  for (var part = 0u; part < PARTS; part++) {
    sum += partial[part * K + k];
  }
  center[k] = MOMENTUM * center[k] + (1.0 - MOMENTUM) * (sum / f32(used));
}
