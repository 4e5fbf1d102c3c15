// Skin: painted face (projected from the front in rest coordinates), scalp shade, mouth's inside.
uniform sampler2D face;
uniform vec3 skin;
uniform vec3 hair;
uniform float scalp;

void main() {
    vec3 n = normalize(v_normal);
    vec2 uv = vec2((v_rest.x + 1.6) / 3.2, (v_rest.y + 2.4) / 4.6);
    vec4 painted = texture(face, uv);
    float front = smoothstep(-1.5, -0.9, v_rest.z);
    vec3 albedo = mix(skin, painted.rgb, front);
    albedo = mix(albedo, hair, scalp * smoothstep(-0.08, 0.12, v_extra.z));
    albedo *= 1.0 - 0.3 * step(0.3, scalp) * smoothstep(-0.3, 0.0, v_extra.z);
    float inside = v_extra.w;
    float occlusion = style == 0 ? v_extra.x : 0.4 + 0.6 * v_extra.x;
    albedo = mix(albedo, vec3(0.20, 0.035, 0.045), inside);
    vec3 c = lit(albedo, n, occlusion, painted.a * 0.5 * front, 0.35);
    if (style == 3) c *= mix(0.3, 1.0, smoothstep(0.35, 0.75, dot(albedo, vec3(1.0)) / dot(skin, vec3(1.0))));
    if (style != 0) c = mix(c, vec3(0.20, 0.03, 0.04), inside);
    color = vec4(c, 1.0);
    emit_shape(n, 0.1 + 0.3 * step(0.5, inside));
}
