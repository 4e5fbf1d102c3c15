// Shared by every material: key, fill, rim and a hemisphere; toon and flat variants.
uniform vec3 camera;
uniform vec3 key_direction;
uniform vec3 key_color;
uniform vec3 fill_color;
uniform vec3 rim_color;
uniform int style;          // 0 natural, 1 toon, 2 flat, 3 line
uniform float tint;
in vec3 v_normal;
in vec3 v_world;
in vec3 v_rest;
in vec4 v_extra;
in vec3 v_direction;
layout(location = 0) out vec4 color;
layout(location = 1) out vec4 shape;    // normal.xy, depth, material, for outlines

vec3 paper(vec3 albedo) { return mix(vec3(0.97), albedo * 0.4 + 0.6, tint); }

vec3 lit(vec3 albedo, vec3 n, float occlusion, float gloss, float wrap) {
    if (style == 2) return albedo;
    if (style == 3) return paper(albedo);
    vec3 eye = normalize(camera - v_world);
    float facing = dot(n, key_direction);
    float key = clamp((facing + wrap) / (1.0 + wrap), 0.0, 1.0);
    if (style == 1) {
        float shade = smoothstep(0.36, 0.40, key * (0.4 + 0.6 * occlusion));
        return albedo * mix(0.62 + 0.1 * fill_color, vec3(0.98), shade);
    }
    vec3 ambient = fill_color * (0.62 + 0.38 * n.y) * occlusion;
    vec3 back = fill_color * 0.35 * max(dot(n, vec3(-key_direction.x, 0.2, 0.5)), 0.0);
    vec3 half_way = normalize(eye + key_direction);
    float spec = gloss * pow(max(dot(n, half_way), 0.0), 24.0);
    float rim = pow(1.0 - max(dot(n, eye), 0.0), 3.0) * occlusion;
    // Light scatters in skin: the shadow's edge turns warm.
    vec3 soft = mix(vec3(key), pow(vec3(key), vec3(0.8, 1.05, 1.1)), step(0.3, wrap));
    vec3 light = key_color * soft * (0.35 + 0.65 * occlusion) + ambient + back;
    return albedo * light + key_color * spec * occlusion + rim_color * rim * 0.5;
}

void emit_shape(vec3 n, float material) {
    shape = vec4(n.xy * 0.5 + 0.5, clamp((length(camera - v_world) - length(camera)) / 10.0 + 0.5, 0.0, 1.0), material);
}
