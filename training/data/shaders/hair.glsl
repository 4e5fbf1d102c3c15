// Hair: strands by stretched noise along the flow; ragged hairline and tips.
uniform sampler2D noise;
uniform vec3 hair;
uniform float strand;       // strands across one unit of the flow's side coordinate
uniform float curl;         // 0 straight, 1 curly (isotropic noise)
uniform float part;         // x of the parting, or beyond 5 for none

void main() {
    float along = v_extra.y, across = v_extra.x;
    vec2 uv = vec2(across * strand, mix(along * 0.08, along * strand, curl));
    float fine = texture(noise, uv).r;
    float coarse = texture(noise, uv * 0.29 + 0.3).r;
    float edge = v_extra.z + (fine - 0.5) * 0.14 + (coarse - 0.5) * 0.14;
    float tip = v_extra.w + (fine - 0.5) * 0.25 + (coarse - 0.5) * 0.35;
    if (edge < 0.0 || tip > 0.9) discard;
    vec3 n = normalize(v_normal);
    vec3 eye = normalize(camera - v_world);
    if (dot(n, eye) < 0.0) n = -n;
    vec3 t = normalize(v_direction + n * (fine - 0.5) * 0.5);
    float streak = mix(0.62, 1.3, fine * 0.5 + coarse * 0.5);
    float line = smoothstep(0.0, 0.07, abs(v_rest.x - part)) * 0.5 + 0.5;
    float root = mix(1.0, 0.75, smoothstep(0.2, 0.0, edge));
    vec3 albedo = hair * root * mix(1.0, line, step(-1.6, v_rest.z));
    if (style >= 2) {
        vec3 c = style == 3 ? mix(vec3(0.95), hair * 0.6 + 0.4, tint) * (0.7 + 0.3 * smoothstep(0.3, 0.42, coarse)) : hair * (0.82 + 0.18 * smoothstep(0.42, 0.46, coarse)); 
        color = vec4(c, 1.0);
    } else if (style == 1) {
        float key = dot(n, key_direction) * 0.5 + 0.5;
        float band = smoothstep(0.5, 0.55, key + (coarse - 0.5) * 0.25);
        vec3 half_way = normalize(eye + key_direction);
        float shine = smoothstep(0.93, 0.95, sqrt(1.0 - pow(dot(t, half_way), 2.0)) - 0.06 + 0.05 * coarse);
        color = vec4(hair * mix(0.62, 1.0, band) + shine * 0.22 * (0.3 + hair), 1.0);
    } else {
        float diffuse = clamp(dot(n, key_direction) * 0.65 + 0.35, 0.0, 1.0);
        vec3 half_way = normalize(eye + key_direction);
        float th = dot(t, half_way);
        float shine = pow(max(1.0 - th * th, 0.0), 30.0) * (0.25 + 0.75 * fine) * (1.0 - 0.7 * curl);
        vec3 light = key_color * diffuse + fill_color * (0.62 + 0.38 * n.y);
        float rim = pow(1.0 - max(dot(n, eye), 0.0), 3.0);
        color = vec4((albedo + 0.012) * streak * light + key_color * shine * (0.14 + 0.4 * hair) * diffuse + rim_color * rim * (0.15 + hair) * 0.7, 1.0);
    }
    emit_shape(n * 0.3, 0.9);
}
