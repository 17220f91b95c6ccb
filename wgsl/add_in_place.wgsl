// sum += value over COUNT elements. A workgroup owns 256 of them, an invocation one.
// FLOPs: COUNT. Bytes: 12 COUNT.
@group(0) @binding(0) var<storage, read_write> sum: array<f32>;
@group(0) @binding(1) var<storage, read> value: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    sum[i] += value[i];
  }
}
