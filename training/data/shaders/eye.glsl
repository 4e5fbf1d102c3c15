// Eyeballs, teeth, tongue and lashes, told apart by extra.y.
uniform vec3 iris;
uniform float iris_radius;
uniform vec3 gaze;          // unit direction, world
uniform vec3 lash;
uniform vec3 tongue;

void main() {
    vec3 n = normalize(v_normal);
    vec3 c;
    if (v_extra.y < 1.5) {
        vec3 d = normalize(v_direction);
        float r = length(d - gaze) / iris_radius;
        vec3 eyeball = vec3(0.86, 0.84, 0.82);
        float ring = smoothstep(1.06, 0.92, r);
        vec3 colored = iris * mix(0.55, 1.35, smoothstep(0.25, 0.9, r)) * mix(1.0, 0.45, smoothstep(0.8, 1.0, r));
        colored = mix(colored, vec3(0.015), smoothstep(0.46, 0.38, r));
        vec3 albedo = mix(eyeball, colored, ring);
        // The upper lid shades the ball.
        float lid = smoothstep(0.62, 0.05, d.y) * 0.55 + 0.45;
        float key = 0.55 + 0.45 * clamp(dot(d, key_direction), 0.0, 1.0);
        vec3 light = style == 0 ? (key_color * 0.62 + fill_color * 0.75) * key * lid : vec3(1.0) * mix(0.85, 1.0, lid);
        c = albedo * light;
        vec2 spot = (d - gaze).xy - vec2(0.16 * sign(key_direction.x), 0.2);
        c += smoothstep(0.15, 0.07, length(spot)) * vec3(0.9);
        if (style == 3) c = mix(c, vec3(dot(c, vec3(0.33))), 1.0 - tint);
        emit_shape(vec3(0.0, 0.0, 1.0), 0.14);
    } else if (v_extra.y < 2.5) {
        // The row's ends would pierce some cheeks.
        if (abs(v_rest.x) > 0.42) discard;
        float depth = smoothstep(-0.25, 0.25, v_rest.z) * 0.8 + 0.2;
        // Between teeth the light fades; lower ones are narrower.
        float wide = v_rest.y > -1.16 ? 0.135 : 0.09;
        float across = abs(v_rest.x) * (1.0 + 0.6 * abs(v_rest.x)) / wide;
        float gap = abs(fract(across + 0.5) - 0.5) * wide;
        float row = style == 0 ? mix(0.75, 1.0, smoothstep(0.0, 0.018, gap)) : 1.0;
        c = vec3(0.93, 0.90, 0.84) * depth * row * (style == 0 ? key_color * 0.6 + fill_color * 0.45 : vec3(1.0));
        emit_shape(vec3(0.0, 0.0, 1.0), 0.45);
    } else if (v_extra.y < 3.5) {
        // Deep in the mouth hardly any light is left: an open mouth is dark, with teeth, before it is red.
        float depth = smoothstep(-0.35, 0.25, v_rest.z) * 0.85 + 0.15;
        c = tongue * depth * (style == 0 ? (key_color * 0.55 + fill_color * 0.4) * (0.6 + 0.4 * n.y) : vec3(1.0));
        if (style == 3) c = mix(vec3(0.5), c, tint);
        emit_shape(vec3(0.0, 0.0, 1.0), 0.42);
    } else {
        c = lash;
        emit_shape(vec3(0.0, 0.0, 1.0), 0.12);
    }
    color = vec4(c, 1.0);
}
