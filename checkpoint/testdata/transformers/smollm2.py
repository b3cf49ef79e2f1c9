"""Reference logits and greedy answers of SmolLM2-135M-Instruct by transformers, float32, eager."""
import json, sys, numpy as np, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
transformers.logging.set_verbosity_error(); transformers.logging.disable_progress_bar()
torch.set_num_threads(2)
F = sys.argv[1]  # the folder that holds hf/; logits.npy, tokens.npy and greedy.json are written there
tok = AutoTokenizer.from_pretrained(F + "/hf")
model = AutoModelForCausalLM.from_pretrained(F + "/hf", dtype=torch.float32, attn_implementation="eager").eval()
text = """The lighthouse at the end of the bay had been dark for eleven years when Marta Quist bought it for less than the
price of a used car. The roof leaked, 3 of the 14 windows were broken, and gulls had nested in the lamp room. "You are
mad," said her brother, but he came every Saturday with his tools. By the autumn of 1987 they had replaced the stairs,
painted the walls white and found, behind a loose board, a tin box with letters from the last keeper. He wrote about
storms, about a ship called the Aurora that he could not save, and about the price of oil: $0.42 a gallon.

def area(r):
    return 3.14159 * r ** 2

Wasser kocht bei 100 °C; l'eau bout à 100 °C; 水在100摄氏度沸腾. In short, the keeper's last letter ended with a list: rope,
candles, bread, and a new calendar for a year he would not see. Marta read it twice, put it back in the box, and went up
to light the lamp."""
ids = tok(text)["input_ids"][:200]
assert len(ids) == 200, len(ids)
with torch.no_grad():
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
np.save(F + "/logits.npy", logits.numpy()); np.save(F + "/tokens.npy", np.array(ids, dtype=np.int32))
logp = torch.log_softmax(logits.double(), -1)
print("mean negative log-likelihood of the text", -logp[:-1].gather(1, torch.tensor(ids[1:])[:, None]).mean().item())
if "--double" in sys.argv:
    wide = AutoModelForCausalLM.from_pretrained(F + "/hf", dtype=torch.float64, attn_implementation="eager").eval()
    with torch.no_grad(): l64 = wide(torch.tensor([ids]), use_cache=False).logits[0]
    print("float32 against float64 (norms, softmax, angles float32): max abs", (l64 - logits).abs().max().item(), "of", l64.abs().max().item())
prompts = [
 "What is the capital of France?", "Write a short poem about rain.", "Explain photosynthesis to a child.",
 "How do I boil an egg?", "Translate 'good morning' to Spanish.", "What is 17 times 23?",
 "Give me three names for a black cat.", "Write a Python function that reverses a string.",
 "Why is the sky blue?", "Summarise the story of Romeo and Juliet in two sentences.",
 "What should I pack for a week in Iceland in winter?", "List five uses of vinegar.",
 "Who wrote 'Pride and Prejudice'?", "I feel sad today. What can I do?",
 "Rewrite this more politely: Give me the report now.", "What is the difference between a virus and a bacterium?",
 "Write a SQL query that counts the orders per customer.", "Tell me a joke about computers.",
 "How many days are there in a leap year, and why?", "Continue this story: The old clock struck thirteen, and"]
out, N = [], 64
for p in prompts:
    text = tok.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)
    prompt = tok(text, add_special_tokens=False)["input_ids"]
    seq, cache, feed = list(prompt), transformers.DynamicCache(config=model.config), torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(N):
            r = model(feed, cache=cache, use_cache=True); t = int(r.logits[0, -1].argmax()); seq.append(t); feed = torch.tensor([[t]])
        full = model(torch.tensor([seq]), use_cache=False).logits[0, len(prompt) - 1:-1]
    best = full.topk(2, -1)
    answer = seq[len(prompt):]
    agree = best.indices[:, 0].tolist() == answer
    margins = (best.values[:, 0] - best.values[:, 1]).tolist()
    end = answer.index(2) if 2 in answer else None
    out.append(dict(text=p, rendered=text, prompt=prompt, answer=answer, margins=[round(m, 6) for m in margins], ends_at=end))
    print(f"{min(margins):.5f} agree={agree} end={end} {tok.decode(answer)[:110]!r}", flush=True)
    assert agree
json.dump(dict(eos=2, note="64 greedy tokens per prompt; ends_at is the index of the first <|im_end|> (2), tokens after it are greedy too; margins: best less second-best logit at each step, by full recomputation",
               items=out), open(F + "/greedy.json", "w"))
