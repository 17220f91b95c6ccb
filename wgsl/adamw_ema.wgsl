// adamw.wgsl, and the teacher's moving average in the same pass: teacher += (1 - momentum) * (student - teacher)
// (specification 2.8), with the student's new weights. A workgroup owns one of COUNT chunks.
// FLOPs: 19 an element. Bytes: 36 an element.
// include lib/adamw.wgsl
@group(0) @binding(7) var<storage, read_write> teacher: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let k = group.y * groups.x + group.x;
  if (k >= COUNT) {
    return;
  }
  let chunk = chunks[k];
  for (var i = chunk.first + lane; i < chunk.end; i += 64u) {
    let updated = adamw(i, chunk);
    teacher[i] += hyper.teacher_rate * (updated - teacher[i]);
  }
}
