#version 330
// Turns the head about the neck (by each vertex's share), shifts it, and projects.
uniform mat4 view_projection;
uniform vec3 rotation;      // yaw, pitch, roll in radians
uniform vec3 translation;
uniform vec3 pivot;
uniform vec3 camera;
uniform vec2 sink;          // how far the mouth's inside, and teeth and tongue, lie back in depth
uniform float inflate;      // clothes: distance along the normal
in vec3 position;
in vec3 normal;
in vec4 rest;               // rest coordinates, share of the head's rotation
in vec4 extra;              // meaning depends on the material
in vec3 direction;          // eyes: direction from the centre; hair: strand direction
out vec3 v_normal;
out vec3 v_world;
out vec3 v_rest;
out vec4 v_extra;
out vec3 v_direction;

mat3 turn(vec3 a) {
    vec3 c = cos(a), s = sin(a);
    mat3 yaw = mat3(c.x, 0, -s.x, 0, 1, 0, s.x, 0, c.x);
    mat3 pitch = mat3(1, 0, 0, 0, c.y, s.y, 0, -s.y, c.y);
    mat3 roll = mat3(c.z, s.z, 0, -s.z, c.z, 0, 0, 0, 1);
    return yaw * pitch * roll;
}

void main() {
    mat3 r = turn(rotation * rest.w);
    vec3 p = position + normal * inflate * extra.y;
    p = r * (p - pivot) + pivot + translation;
    v_normal = r * normal;
    v_direction = r * direction;
    v_world = p;
    v_rest = rest.xyz;
    v_extra = extra;
    gl_Position = view_projection * vec4(p, 1.0);
    // Only the depth moves, so that nothing inside the mouth pierces lips or cheeks.
    float back = sink.x * extra.w + sink.y * step(1.5, extra.y) * step(extra.y, 3.5);
    vec4 behind = view_projection * vec4(p + normalize(p - camera) * back, 1.0);
    gl_Position.z = behind.z / behind.w * gl_Position.w;
}
