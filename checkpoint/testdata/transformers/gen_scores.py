"""What transformers makes of models that Trimtab exported.

    go test ./checkpoint -run TestTransformersScores -folders /tmp/exported
    python3 checkpoint/testdata/transformers/gen_scores.py /tmp/exported

Writes golden.json beside itself: the scores of AutoModelForSequenceClassification
over twenty conversations, in one batch and one by one, and what
pipeline("text-generation") answers to a list of messages. Needs torch and
transformers; the Go tests do not.
"""
import json, pathlib, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

torch.set_num_threads(1)
here, folders = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[1])
golden = {"rewards": {}}
for name in ("padding token", "no padding token"):
    folder = folders / name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    chats = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in json.loads((folder / "chats.json").read_text())]
    texts = tokenizer.apply_chat_template(chats, tokenize=False)
    ids = [tokenizer(x, add_special_tokens=False).input_ids for x in texts]
    with torch.no_grad():
        batch = model.eval()(**tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")).logits[:, 0]
        single = [model(torch.tensor([x])).logits[0, 0].item() for x in ids]
    golden["rewards"][name] = {"ids": ids, "batch": batch.tolist(), "single": single}
folder = folders / "language"
answer = pipeline("text-generation", model=str(folder))
messages = [{"role": "user", "content": "Where does Anna live?"}]
said = answer(messages, do_sample=False)[0]["generated_text"]
assert said[-1]["role"] == "assistant", said
inputs = answer.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
out = answer.model.generate(**inputs, do_sample=False)[0].tolist()
n = inputs["input_ids"].shape[1]
golden["answer"] = {"prompt": out[:n], "ids": out[n:], "text": said[-1]["content"]}
(here / "golden.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
print(golden["answer"])
