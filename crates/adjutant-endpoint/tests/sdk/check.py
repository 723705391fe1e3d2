"""The published libraries, unmodified, against the endpoint to which their environment variables lead.

Each check is a function; its name says what holds. The last line of the output is `ok` with their number.
"""

import json
import sys

import anthropic
import openai
from pydantic import BaseModel

MODEL = "m"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALLS = [("call_a", {"city": "Paris"}), ("call_b", {"city": "Rome"})]

gpt = openai.OpenAI()
claude = anthropic.Anthropic()


def user(text):
    return [{"role": "user", "content": text}]


def chat_answers_whole():
    answer = gpt.chat.completions.create(model=MODEL, messages=user("hello"))
    assert answer.choices[0].message.content == "you said: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 18


def chat_streams():
    options = {"include_usage": True}
    stream = gpt.chat.completions.create(model=MODEL, messages=user("hello you"), stream=True, stream_options=options)
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "you said: hello you"
    assert chunks[-1].usage.prompt_tokens == 11


def chat_calls_tools_and_goes_on():
    tools = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    messages = user("call weather")
    with gpt.chat.completions.stream(model=MODEL, messages=messages, tools=tools) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    calls = [(c.id, json.loads(c.function.arguments)) for c in message.tool_calls]
    assert calls == CALLS, calls
    messages.append(message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": c.id, "content": "sunny"} for c in message.tool_calls]
    answer = gpt.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert answer.choices[0].message.content == "you said: sunny"


class Place(BaseModel):
    city: str


def chat_parses_structured_answers():
    text = 'json {"city": "Paris"}'
    answer = gpt.chat.completions.parse(model=MODEL, messages=user(text), response_format=Place)
    assert answer.choices[0].message.parsed == Place(city="Paris")


def responses_answer_whole():
    answer = gpt.responses.create(model=MODEL, input="hello", instructions="be brief")
    assert answer.output_text == "you said: hello"
    assert answer.status == "completed" and answer.usage.total_tokens == 18


def responses_stream_and_call_tools_and_go_on():
    tools = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    items = [{"role": "user", "content": "call weather"}]
    with gpt.responses.stream(model=MODEL, input=items, tools=tools) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        answer = stream.get_final_response()
    assert text == answer.output_text == "one moment"
    found = [i for i in answer.output if i.type == "function_call"]
    assert [(c.call_id, json.loads(c.arguments)) for c in found] == CALLS
    items += [i.model_dump(exclude_none=True) for i in answer.output]
    items += [{"type": "function_call_output", "call_id": c.call_id, "output": "sunny"} for c in found]
    assert gpt.responses.create(model=MODEL, input=items, tools=tools).output_text == "you said: sunny"


def responses_parse_structured_answers():
    answer = gpt.responses.parse(model=MODEL, input='json {"city": "Rome"}', text_format=Place)
    assert answer.output_parsed == Place(city="Rome")


def messages_answer_whole():
    answer = claude.messages.create(model=MODEL, max_tokens=10, system="be brief", messages=user("hello"))
    assert answer.content[0].text == "you said: hello"
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (8, 3)


def messages_stream_and_call_tools_and_go_on():
    tools = [{"name": "weather", "input_schema": WEATHER}]
    messages = user("call weather")
    with claude.messages.stream(model=MODEL, max_tokens=10, messages=messages, tools=tools) as stream:
        text = "".join(stream.text_stream)
        answer = stream.get_final_message()
    assert text == "one moment" and answer.stop_reason == "tool_use"
    assert answer.usage.output_tokens == 7 and answer.usage.input_tokens == 8
    found = [b for b in answer.content if b.type == "tool_use"]
    assert [(c.id, c.input) for c in found] == CALLS
    messages.append({"role": "assistant", "content": answer.content})
    results = [{"type": "tool_result", "tool_use_id": c.id, "content": "sunny"} for c in found]
    messages.append({"role": "user", "content": results})
    answer = claude.messages.create(model=MODEL, max_tokens=10, messages=messages, tools=tools)
    assert answer.content[0].text == "you said: sunny"


def models_are_listed():
    assert [m.id for m in gpt.models.list()] == ["openai/m"]
    assert [m.id for m in claude.models.list()] == ["openai/m"]
    assert gpt.models.retrieve("openai/m").id == "openai/m"


def a_spent_budget_is_an_error_that_is_not_retried():
    text = "fail budget_exceeded"
    try:
        gpt.chat.completions.create(model=MODEL, messages=user(text))
        raise SystemExit("no error")
    except openai.RateLimitError as error:
        assert error.code == "insufficient_quota", error.body
    try:
        claude.messages.create(model=MODEL, max_tokens=11, messages=user(text))
        raise SystemExit("no error")
    except anthropic.RateLimitError as error:
        assert "budget_exceeded" in str(error)


def a_repeat_after_a_timeout_joins_the_first_call():
    sent = []

    def count(_request):
        sent.append(1)
        if len(sent) == 2:
            # Now the test lets the model answer.
            print("repeated", flush=True)

    http = openai.DefaultHttpxClient(event_hooks={"request": [count]})
    with openai.OpenAI(http_client=http, max_retries=1) as client:
        messages = user("wait for me")
        patient = client.with_options(timeout=20)
        # Only the first try is impatient.
        answer = None
        try:
            answer = client.with_options(timeout=0.5, max_retries=0).chat.completions.create(
                model=MODEL, messages=messages
            )
        except openai.APITimeoutError:
            headers = {"x-stainless-retry-count": "1"}
            answer = patient.chat.completions.create(model=MODEL, messages=messages, extra_headers=headers)
    assert len(sent) == 2 and answer.choices[0].message.content == "you said: wait for me"


def main():
    checks = [
        check
        for name, check in globals().items()
        if callable(check) and getattr(check, "__module__", "") == "__main__" and name not in ("main", "user", "Place")
    ]
    for check in checks:
        print(check.__name__, file=sys.stderr, flush=True)
        check()
    print(f"ok {len(checks)}")


if __name__ == "__main__":
    main()
