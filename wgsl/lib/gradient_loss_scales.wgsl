// The maps of depth_pixels.wgsl at four scales: each stride keeps every so-manieth line and column.
const SCALES = 4u;
const STRIDES = vec4<u32>(1u, 2u, 4u, 6u);

struct Maps {
  rows: u32,
  height: u32,
  width: u32,
  // Pixels of a part.
  length: u32,
}
