// One AdamW step over a flat buffer of parameters, gradients clipped by sub-module (lib/adamw.wgsl).
// A workgroup owns one of COUNT chunks. FLOPs: 16 an element. Bytes: 28 an element.
// include lib/adamw.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let k = group.y * groups.x + group.x;
  if (k >= COUNT) {
    return;
  }
  let chunk = chunks[k];
  for (var i = chunk.first + lane; i < chunk.end; i += 64u) {
    adamw(i, chunk);
  }
}
