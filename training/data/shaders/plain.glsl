// Accessories: one colour.
uniform vec3 plain_color;

void main() {
    vec3 n = normalize(v_normal);
    color = vec4(lit(plain_color, n, 1.0, 0.9, 0.2), 1.0);
    emit_shape(vec3(0.0, 0.0, 1.0), 0.8);
}
