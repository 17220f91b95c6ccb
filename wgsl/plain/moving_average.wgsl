// teacher += teacher_rate (student - teacher) over COUNT quads. A workgroup owns 256 quads, an invocation one.
// FLOPs: 12 COUNT. Bytes: 48 COUNT.
// include lib/optimizer_step.wgsl
@group(0) @binding(0) var<storage, read> student: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read_write> teacher: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    let before = teacher[i];
    teacher[i] = before + step.rates.teacher_rate * (student[i] - before);
  }
}
