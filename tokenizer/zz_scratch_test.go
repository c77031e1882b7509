package tokenizer
import ("testing";"time";"os";"strings";"fmt";"math/rand";"encoding/base64";"strconv")
func hwm() string { b,_:=os.ReadFile("/proc/self/status"); for _,l:=range strings.Split(string(b),"\n"){ if strings.HasPrefix(l,"VmHWM"){return l}}; return ""}
func TestScratchLong(t *testing.T){
 tk:=load(t,os.Getenv("FAM"))
 n,_:=strconv.Atoi(os.Getenv("N"))
 var s string
 switch os.Getenv("K"){
 case "sp": s=strings.Repeat(" ",n)
 case "w": s=strings.Repeat("the cat sat ",n/12)
 case "a": s=strings.Repeat("a",n)
 case "nl": s=strings.Repeat("\n",n)
 case "p": s=strings.Repeat("!",n)
 case "9": s=strings.Repeat("9",n)
 case "eot": s=strings.Repeat("<|eot_id|>",n/10)
 case "b64": b:=make([]byte,n*3/4); rand.New(rand.NewSource(1)).Read(b); s=base64.StdEncoding.EncodeToString(b)
 case "zh": s=strings.Repeat("你好世界",n/12)
 case "nul": s=strings.Repeat("\x00",n)
 case "bin": b:=make([]byte,n); rand.New(rand.NewSource(1)).Read(b); s=string(b)
 }
 t0:=time.Now()
 ids,err:=tk.Encode(s,EncodeOptions{ParseSpecial:os.Getenv("P")!=""})
 d:=time.Since(t0)
 h:=hwm()
 back,_:=tk.Decode(ids,false)
 fmt.Println(os.Getenv("K"),len(s),len(ids),err,d,h,back==ValidUTF8(s))
}
