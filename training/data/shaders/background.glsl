#version 330
uniform sampler2D picture;
in vec2 uv;
layout(location = 0) out vec4 color;
layout(location = 1) out vec4 shape;
void main() { color = texture(picture, uv); shape = vec4(0.5, 0.5, 1.0, 0.0); }
