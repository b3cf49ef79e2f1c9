"""What transformers makes of the conversations under the chat template that Trimtab writes.

    go test ./dataset -run TestChatTemplate -update
    python3 dataset/testdata/chat/gen_chat.py

Adds "ids", or "refused" with the reason, to each case of conversations.json.
Needs transformers; the Go tests do not.
"""
import json, pathlib
from transformers import PreTrainedTokenizerFast

here = pathlib.Path(__file__).parent
tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(here / "tokenizer.json"), bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<|pad|>")
tokenizer.chat_template = (here / "chat_template.jinja").read_text()
cases = json.loads((here / "conversations.json").read_text())
for case in cases:
    case["ids"], case["refused"] = None, ""
    try:
        case["ids"] = tokenizer.apply_chat_template(case["messages"] or [], add_generation_prompt=case["add_generation_prompt"], return_dict=False)
    except Exception as e:  # jinja2's TemplateError, of raise_exception
        case["refused"] = str(e)
(here / "conversations.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
print(len(cases), "conversations,", sum(c["refused"] != "" for c in cases), "refused")
