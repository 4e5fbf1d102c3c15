#version 330
// A tent somewhat wider than the pixel, from four bilinear taps: no aliasing, hardly any blur.
uniform sampler2D picture;
uniform float reach;        // in texels of the large picture
in vec2 uv;
layout(location = 0) out vec4 color;
void main() {
    vec2 step_ = reach / vec2(textureSize(picture, 0));
    vec3 sum = texture(picture, uv + step_).rgb + texture(picture, uv - step_).rgb;
    step_.x = -step_.x;
    sum += texture(picture, uv + step_).rgb + texture(picture, uv - step_).rgb;
    color = vec4(sum * 0.25, 1.0);
}
