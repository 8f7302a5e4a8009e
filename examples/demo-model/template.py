"""Renders the chat template as the runtime does, and marks what the assistant says."""
import json
import os

import jinja2

HERE = os.path.dirname(os.path.abspath(__file__))


class Template:
    def __init__(self, path=os.path.join(HERE, "chat_template.jinja")):
        with open(path) as f:
            self.text = f.read()
        env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        env.filters["tojson"] = lambda x, **_: json.dumps(x, ensure_ascii=False)
        self.template = env.from_string(self.text)

    def render(self, messages, tools=None, add_generation_prompt=False):
        return self.template.render(messages=messages, tools=tools or None, add_generation_prompt=add_generation_prompt)

    def spoken(self, messages, tools=None):
        """The rendered text in parts: (text, said by the assistant?)."""
        parts, rest = [], self.render(messages, tools)
        while rest:
            head, mark, rest = rest.partition("<|assistant|>")
            parts.append((head + mark, False))
            if mark:
                said, end, rest = rest.partition("<|end|>")
                parts.append((said + end, True))
        return parts
