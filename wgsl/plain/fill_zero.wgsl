// x = 0 over COUNT quads. A workgroup owns 256 quads, an invocation one. FLOPs: none. Bytes: 16 COUNT.
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    x[i] = vec4<f32>();
  }
}
