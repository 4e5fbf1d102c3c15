// Clothes: the torso inflated, cut along the neckline (extra.z > 0 is cloth), patterned.
uniform vec3 garment;
uniform vec3 garment_second;
uniform int pattern;
uniform float pattern_scale;
uniform float hem;

void main() {
    if (v_extra.z < 0.0) discard;
    vec3 n = normalize(v_normal);
    vec3 eye = normalize(camera - v_world);
    bool inside = !gl_FrontFacing;
    vec2 p = v_rest.xy / pattern_scale;
    float second = 0.0;
    if (pattern == 1) second = step(0.5, fract(p.y));
    if (pattern == 2) second = step(length(fract(p + vec2(0.5 * step(0.5, fract(p.y * 0.5)), 0.0)) - 0.5), 0.25);
    if (pattern == 3) second = smoothstep(-5.5, -2.8, v_rest.y);
    if (pattern == 4) second = 0.5 * step(0.5, fract(p.x)) + 0.5 * step(0.5, fract(p.y));
    vec3 albedo = mix(garment, garment_second, second);
    float seam = smoothstep(hem, hem - 0.03, v_extra.z);
    albedo *= mix(1.0, 0.8, seam);
    if (inside) albedo *= 0.45;
    vec3 c = lit(albedo, inside ? -n : n, 0.35 + 0.65 * v_extra.x, 0.0, 0.2);
    color = vec4(c, 1.0);
    emit_shape(n, 0.25 + 0.04 * seam);
}
