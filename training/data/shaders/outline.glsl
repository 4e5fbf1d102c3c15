#version 330
// Dark lines where normal, depth or material jump.
uniform sampler2D picture;
uniform sampler2D shapes;
uniform float strength;
uniform vec3 ink;
in vec2 uv;
layout(location = 0) out vec4 color;
void main() {
    ivec2 at = ivec2(gl_FragCoord.xy);
    ivec2 last = textureSize(shapes, 0) - 1;
    vec4 a = texelFetch(shapes, clamp(at + ivec2(-1, 0), ivec2(0), last), 0);
    vec4 b = texelFetch(shapes, clamp(at + ivec2(1, 0), ivec2(0), last), 0);
    vec4 c = texelFetch(shapes, clamp(at + ivec2(0, -1), ivec2(0), last), 0);
    vec4 d = texelFetch(shapes, clamp(at + ivec2(0, 1), ivec2(0), last), 0);
    vec4 jump = max(abs(a - b), abs(c - d));
    float line = smoothstep(0.22, 0.5, length(jump.xy)) * 0.8;
    line = max(line, smoothstep(0.03, 0.06, jump.z));
    line = max(line, smoothstep(0.03, 0.06, jump.w));
    color = vec4(mix(texelFetch(picture, at, 0).rgb, ink, clamp(line * strength, 0.0, 1.0)), 1.0);
}
