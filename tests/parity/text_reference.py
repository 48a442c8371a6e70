# Generates text-metric parity vectors from reference packages on inputs written for this project.
# Needs: pip install sacrebleu==2.6.0 rouge_score==0.1.2 ; SACREBLEU_SEED unset (12345)
import json, sacrebleu, numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest
from rouge_score import rouge_scorer
refA=["A red kite drifts over the quiet harbour at dawn.","The adapter raised accuracy by 3.5% on 1,200 held-out prompts!","Strength 0.8 keeps the face; strength 1.2 ruins it.","She didn't reply, so we re-ran the job (twice).","L’été à Zürich coûte 12 € — très cher.","Nothing changed."]
refB=["At dawn a red kite floats above the calm harbour.","Accuracy on 1,200 unseen prompts rose 3.5% with the adapter!","At 0.8 the face survives; at 1.2 it is ruined.","She did not answer, so the job was run again (two times).","Un été à Zürich coûte 12 €, c’est très cher.","There was no change."]
sys1=["A red kite drifts above the quiet harbour at dawn.","The adapter raised accuracy by 3.5% on 1,200 unseen prompts!","Strength 0.8 keeps the face; strength 1.2 breaks it.","She didn't answer, so we re-ran the job (twice).","L’été à Zürich coûte 12 € — cher.","Nothing has changed."]
sys2=["Red kite over harbour.","Accuracy went up 3.5 % for 1200 prompts with an adapter.","0.8 good, 1.2 bad","No reply; rerun job","Zürich est chère en été: 12 €","Unchanged"]
empty=["" for _ in refA]
out={"versions":{"sacrebleu":sacrebleu.__version__,"rouge_score":"0.1.2"},"refs":[refA,refB],"systems":{"sys1":sys1,"sys2":sys2,"empty":empty},"corpus":[],"sentence":[],"tokenize":[],"rouge":[],"paired":[],"stats":[]}
def rec(kind,cls,kw,name,hyp,refs):
    m=cls(**kw); s=m.corpus_score(hyp,refs); d=dict(metric=kind,args=kw,system=name,n_refs=len(refs),score=s.score,name=s.name,signature=str(m.get_signature()))
    if kind=="bleu": d.update(counts=[int(x) if float(x).is_integer() else x for x in s.counts],totals=[int(x) if float(x).is_integer() else x for x in s.totals],precisions=s.precisions,bp=s.bp,sys_len=s.sys_len,ref_len=s.ref_len)
    if kind=="ter": d.update(num_edits=s.num_edits,ref_length=s.ref_length)
    out["corpus"].append(d)
for name,h in out["systems"].items():
  for refs in ([refA],[refA,refB]):
    for kw in [{}]+[{"tokenize":t} for t in ("none","intl","char","zh")]+[{"smooth_method":"none"},{"smooth_method":"floor"},{"smooth_method":"floor","smooth_value":0.5},{"smooth_method":"add-k"},{"smooth_method":"add-k","smooth_value":2},{"lowercase":True},{"effective_order":True},{"max_ngram_order":2}]: rec("bleu",BLEU,kw,name,h,refs)
    for kw in [{},{"word_order":1},{"word_order":2},{"beta":1},{"beta":3},{"lowercase":True},{"whitespace":True},{"eps_smoothing":True},{"eps_smoothing":True,"word_order":2},{"char_order":4}]: rec("chrf",CHRF,kw,name,h,refs)
    for kw in [{},{"normalized":True},{"no_punct":True},{"case_sensitive":True},{"normalized":True,"asian_support":True}]: rec("ter",TER,kw,name,h,refs)
for name in ("sys1","sys2"):
  for i,h in enumerate(out["systems"][name]):
    r=[refA[i],refB[i]]
    out["sentence"].append(dict(system=name,i=i,bleu_eff=BLEU(effective_order=True).sentence_score(h,r).score,bleu_addk=BLEU(effective_order=True,smooth_method="add-k").sentence_score(h,r).score,chrf2=CHRF().sentence_score(h,r).score,chrf2pp=CHRF(word_order=2).sentence_score(h,r).score,ter=TER().sentence_score(h,r).score))
for line in refA+refB+["v1.2.3, (a&amp;b) \"q\" 5-3 e.g. 1,000.50 50%","日本語とABC、中文。","2024.","a -\nb <skipped> c","tab\tand  two spaces ","…«x»¿?","x_y #tag @me 3-4 a-b -5"]:
  out["tokenize"].append(dict(line=line,**{t:BLEU(tokenize=t).tokenizer(line) for t in ("13a","intl","zh","char","none")},tercom=TER().tokenizer(line),tercom_norm=TER(normalized=True).tokenizer(line)))
for st in (False,True):
  sc=rouge_scorer.RougeScorer(["rouge1","rouge2","rougeL","rougeLsum"],use_stemmer=st)
  for name in ("sys1","sys2"):
    for i,h in enumerate(out["systems"][name]): out["rouge"].append(dict(stemmer=st,target=refA[i],prediction=h,**{k:dict(p=v.precision,r=v.recall,f=v.fmeasure) for k,v in sc.score(refA[i],h).items()}))
  out["rouge"].append(dict(stemmer=st,target="one two three\nfour five six seven",prediction="one three\nfour six five eight",**{k:dict(p=v.precision,r=v.recall,f=v.fmeasure) for k,v in sc.score("one two three\nfour five six seven","one three\nfour six five eight").items()}))
b=BLEU(); out["stats"]=dict(order="sys_len,ref_len,correct1..4,total1..4",sys1=b._extract_corpus_statistics(sys1,[refA,refB]),sys2=b._extract_corpus_statistics(sys2,[refA,refB]))
for tt,n in (("bs",1000),("ar",1000)):
  sig,sc=PairedTest([("sys1",sys1),("sys2",sys2)],{"BLEU":BLEU(references=[refA,refB]),"chrF":CHRF(references=[refA,refB])},None,test_type=tt,n_samples=n)()
  out["paired"].append(dict(test=tt,n=n,signatures={k:str(v) for k,v in sig.items()},results={k:[repr(x) if not isinstance(x,str) else x for x in v] for k,v in sc.items()}))
# numpy PCG64 stream: needed only for bit-exact p-values
rng=np.random.default_rng(12345); out["numpy_pcg64_seed12345"]=dict(choice_6_x2=rng.choice(6,size=(2,6),replace=True).tolist(),note="indices drawn by Generator.choice(6,size=(2,6),replace=True) on a fresh generator")
json.dump(out,open("text.json","w"),ensure_ascii=False,indent=1)
print(len(out["corpus"]),len(out["tokenize"]),len(out["rouge"]))
for d in out["corpus"]:
    if d["system"]=="sys1" and d["n_refs"]==2 and (d["args"] in ({}, {"tokenize":"intl"},{"word_order":2},{"normalized":True},{"smooth_method":"add-k"})): print(d["metric"],d["args"],d["score"])
print(out["paired"])
