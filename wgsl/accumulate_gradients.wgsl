// sum = value where first is set, else sum + value, over COUNT quads. A workgroup owns 256 of them, an invocation one.
// FLOPs: 4 COUNT. Bytes: 48 COUNT.
@group(0) @binding(0) var<storage, read_write> sum: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> value: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> first: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= COUNT) {
    return;
  }
  if (first[0] != 0u) {
    sum[i] = value[i];
  } else {
    sum[i] += value[i];
  }
}
