"""A small program in the text of XLA: two loops, one in the words of a TPU."""

TEXT = """\
HloModule jit_update, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%body (p: (s32[], bf16[7,8])) -> (s32[], bf16[7,8]) {
  %p = (s32[]{:T(128)}, bf16[7,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %w = bf16[7,8]{1,0:T(8,128)(2,1)} get-tuple-element(%p), index=1
  %gathered = bf16[7,32]{1,0:T(8,128)(2,1)S(1)} all-gather(%w), channel_id=1, \
replica_groups=[2,4]<=[2,4], dimensions={1}, use_global_device_ids=true
  %two = s32[]{:T(128)} constant(2)
  %on = s32[]{:T(128)} add(%i, %two)
  ROOT %next = (s32[], bf16[7,8]{1,0}) tuple(%on, %w)
}

%condition (p: (s32[], bf16[7,8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %q = (s32[]{:T(128)}, bf16[7,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %lt = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

%other_body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = (s32[], f32[8]{0}) parameter(0)
  %k = s32[] get-tuple-element(%r), index=0
  %g = f32[8]{0} get-tuple-element(%r), index=1
  %reduced = f32[8]{0} all-reduce(%g), channel_id=2, \
replica_groups={{0,4},{1,5},{2,6},{3,7}}, to_apply=%add
  ROOT %after = (s32[], f32[8]{0}) tuple(%k, %reduced)
}

%other_condition (p: (s32[], f32[8])) -> pred[] {
  %s = (s32[], f32[8]{0}) parameter(0)
  ROOT %never = pred[] custom-call(%s), custom_call_target="ask"
}

%part (a: f32[12,64], n: s32[]) -> f32[1,64] {
  %a = f32[12,64]{1,0} parameter(0)
  %n = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[1,64]{1,0} dynamic-slice(%a, %n, %zero), \
dynamic_slice_sizes={1,64}
}

%start (b: f32[16]) -> (f32[16], f32[128]) {
  %b = f32[16]{0} parameter(0)
  %ag.1 = f32[128]{0} all-gather(%b), channel_id=7, \
replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}, dimensions={0}
  ROOT %t = (f32[16]{0}, f32[128]{0}) custom-call(%ag.1), \
custom_call_target="AsyncCollectiveStart"
}

%done (b: f32[16]) -> f32[128] {
  %c = f32[16]{0} parameter(0)
  ROOT %ag.2 = f32[128]{0} all-gather(%c), channel_id=7, \
replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}, dimensions={0}
}

ENTRY %main (x0: bf16[7,8], x1: f32[8], x2: f32[12,64], x3: f32[16]) -> f32[] {
  %x0 = bf16[7,8]{1,0:T(8,128)(2,1)} parameter(0)
  %x1 = f32[8]{0} parameter(1)
  %x2 = f32[12,64]{1,0} parameter(2)
  %x3 = f32[16]{0} parameter(3)
  %first = s32[]{:T(128)} constant(2)
  %t0 = (s32[]{:T(128)}, bf16[7,8]{1,0:T(8,128)(2,1)}) tuple(%first, %x0)
  %while.1 = (s32[]{:T(128)}, bf16[7,8]{1,0}) while(%t0), \
condition=%condition, body=%body
  %t1 = (s32[], f32[8]{0}) tuple(%first, %x1)
  %while.2 = (s32[], f32[8]{0}) while(%t1), condition=%other_condition, \
body=%other_body, backend_config={"known_trip_count":{"n":"3"}}
  %while.3 = (s32[], f32[8]{0}) while(%t1), condition=%other_condition, \
body=%other_body
  %sliced = f32[1,64]{1,0:T(1,128)S(1)} fusion(%x2, %first), kind=kLoop, \
calls=%part
  %begun = (f32[16]{0}, f32[128]{0}) fusion(%x3), kind=kCustom, calls=%start
  %ended = f32[128]{0} fusion(%x3), kind=kCustom, calls=%done
  ROOT %out = f32[] constant(0)
}
"""
