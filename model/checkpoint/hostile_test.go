package checkpoint_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/checkpoint"
)

// archived is a zip archive of torch.save with that pickle and one storage of 4 numbers.
func archived(t testing.TB, method uint16, pickle string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range map[string]string{"net/data.pkl": pickle, "net/data/0": strings.Repeat("\x00\x00\x80?", 4)} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// text is a string in a pickle, number a whole number.
func text(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func number(n int64) string {
	return "\x8a\x08" + string(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

// stored is the storage with that key and so many float32; tensor a view of one of 4.
func stored(key string, elements int64) string {
	return "(" + text("storage") + "ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(elements) + "tQ"
}

func tensor(storage string, offset int64, shape, strides []int64) string {
	list := func(v []int64) string {
		s := "("
		for _, n := range v {
			s += number(n)
		}
		return s + "t"
	}
	return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + list(shape) + list(strides) + "\x89ccollections\nOrderedDict\n)RtR"
}

// dictionary is a state dict of one member.
func dictionary(value string) string { return "\x80\x02}" + text("a") + value + "s." }

// pickles are programs that must not be run, by what the error says of them.
func pickles() map[string]struct{ pickle, cause string } {
	four := stored("0", 4)
	laughs := "\x80\x02}q\x00"
	for i := range 40 { // each has the one before it twice
		laughs += "}q" + string(rune(i+1)) + text("x") + "h" + string(rune(i)) + "s" + text("y") + "h" + string(rune(i)) + "s"
	}
	deep := "\x80\x02" + strings.Repeat("}"+text("k"), 200) + tensor(four, 0, []int64{4}, []int64{1}) + strings.Repeat("s", 200) + "."
	return map[string]struct{ pickle, cause string }{
		"os.system":               {"\x80\x02cos\nsystem\n" + text("rm -rf /") + "\x85R.", "calls os.system"},
		"builtins.eval":           {dictionary("cbuiltins\neval\n" + text("1") + "\x85R"), "calls builtins.eval"},
		"by a new object":         {"\x80\x02csubprocess\nPopen\n" + text("sh") + "\x85\x81.", "calls subprocess.Popen"},
		"by the stack":            {"\x80\x04" + text("posix") + text("system") + "\x93" + text("sh") + "\x85R.", "calls posix.system"},
		"by an old instruction":   {"(S'sh'\nios\nsystem\n.", "the instruction 'i'"},
		"a class within OrderedD": {"\x80\x02ccollections\nOrderedDict.__init__\n)R.", "calls collections.OrderedDict.__init__"},
		"a call of text":          {"\x80\x02" + text("os.system") + ")R.", "calls text"},
		"no dictionary":           {"\x80\x02]K\x01a.", "holds a list"},
		"it contains itself":      {"\x80\x02}q\x00" + text("a") + "h\x00s.", "within each other"},
		"a list with itself":      {"\x80\x02]q\x00h\x00a.", "holds a list"},
		"dictionaries galore":     {laughs + ".", "within each other"},
		"very deep":               {deep, "within each other"},
		"bytes that are not there": {"\x80\x04\x8e" + string(binary.LittleEndian.AppendUint64(nil, 1<<40)) + "x.",
			"ends too early"},
		"a number of 2 GB":          {"\x80\x02\x8b\xff\xff\xff\x7f1.", "a number of"},
		"a huge storage":            {dictionary(tensor(stored("0", 1<<50), 0, []int64{1 << 50}, []int64{1})), `storage "0" has 16 bytes`},
		"bytes that overflow":       {dictionary(tensor(strings.Replace(stored("0", 1<<58), "FloatStorage", "DoubleStorage", 1), 0, []int64{1 << 58}, []int64{1})), "storage of 288230376151711744 numbers"},
		"bytes that become fewer":   {dictionary(tensor(strings.Replace(stored("0", 1<<60-1), "FloatStorage", "DoubleStorage", 1), 0, []int64{1}, []int64{1})), "storage of 1152921504606846975 numbers"},
		"a class of a list":         {"\x80\x04]q\x00" + text("a") + "\x93.", "a list where a name should be"},
		"a class of a long text":    {"\x80\x04" + text(strings.Repeat("a", 5<<10)) + text("a") + "\x93.", "text where a name should be"},
		"a storage beyond numbers":  {dictionary(tensor(stored("0", -1), 0, []int64{1}, []int64{1})), "storage of -1 numbers"},
		"a storage that is missing": {dictionary(tensor(stored("7", 4), 0, []int64{4}, []int64{1})), "no net/data/7"},
		"a storage of elsewhere":    {dictionary(tensor(stored("../../net/data.pkl", 4), 0, []int64{4}, []int64{1})), "no net/data/../"},
		"outside of its storage":    {dictionary(tensor(four, 1, []int64{4}, []int64{1})), "does not lie in its storage"},
		"before its storage":        {dictionary(tensor(four, -1, []int64{2}, []int64{1})), "does not lie in its storage"},
		"strides that lead outside": {dictionary(tensor(four, 0, []int64{2, 2}, []int64{3, 1})), "does not lie in its storage"},
		"strides that overflow":     {dictionary(tensor(four, 0, []int64{2, 2}, []int64{1 << 62, 1 << 62})), "does not lie in its storage"},
		"strides that run back":     {dictionary(tensor(four, 3, []int64{4}, []int64{-1})), "does not lie in its storage"},
		"one number many times":     {dictionary(tensor(four, 0, []int64{1 << 40}, []int64{0})), "does not lie in its storage"},
		"a shape that overflows":    {dictionary(tensor(four, 0, []int64{1 << 32, 1 << 32}, []int64{0, 0})), "does not lie in its storage"},
		"a tensor of a tensor":      {dictionary(tensor(tensor(four, 0, []int64{4}, []int64{1}), 0, []int64{4}, []int64{1})), "of a tensor"},
		"many dimensions":           {dictionary(tensor(four, 0, make([]int64, 1000), make([]int64, 1000))), "1000 dimensions"},
		"a value never made":        {"\x80\x02h\x09.", "wants value 9"},
		"an empty stack":            {"\x80\x02s.", "more than it has put down"},
		"no mark":                   {"\x80\x02K\x01t.", "more than it has put down"},
		"a key without a value":     {"\x80\x02}(K\x01u.", "a key without a value"},
		"from outside":              {"\x80\x02" + text("file:///etc/passwd") + "Q.", "no storage"},
		"a type of the future":      {dictionary(tensor(strings.Replace(four, "FloatStorage", "QuintStorage", 1), 0, []int64{4}, []int64{1})), "a type that is not read"},
		"without an end":            {"\x80\x02}", "ends too early"},
		"millions of instructions":  {"\x80\x02" + strings.Repeat("N0", 2<<20) + "}.", "instructions"},
		"millions of values":        {"\x80\x02" + strings.Repeat("}", 3<<20) + ".", "instructions"},
		"protocol 99":               {"\x80\x63}.", "protocol 99"},
	}
}

// What a pickle must not do gives an error that names it, and takes little memory.
func TestHostilePickles(t *testing.T) {
	for name, tt := range pickles() {
		t.Run(name, func(t *testing.T) {
			refused(t, archived(t, zip.Store, tt.pickle), tt.cause)
		})
	}
	t.Run("a compressed bomb", func(t *testing.T) {
		refused(t, archived(t, zip.Deflate, dictionary(text(strings.Repeat("\x00", 64<<20)))), "is compressed")
	})
	t.Run("entries that lie over each other", func(t *testing.T) {
		refused(t, overlapping(t), "lie over each other")
	})
	t.Run("a large pickle", func(t *testing.T) {
		refused(t, archived(t, zip.Store, dictionary(text(strings.Repeat("\x00", 65<<20)))), "more than the 67108864")
	})
}

// overlapping is an archive of which many entries are the same bytes.
func overlapping(t *testing.T) []byte {
	const n = 200
	numbers := int64(64 << 10)
	pickle := "\x80\x02}"
	for i := range n {
		pickle += text(fmt.Sprint("t", i)) + tensor(stored(fmt.Sprint("k", i), numbers), 0, []int64{numbers}, []int64{1}) + "s"
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(name string, content []byte) {
		w, err := z.CreateRaw(&zip.FileHeader{Name: name, CRC32: crc32.ChecksumIEEE(content), CompressedSize64: uint64(len(content)), UncompressedSize64: uint64(len(content))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add("net/data.pkl", []byte(pickle+"."))
	zeros := make([]byte, 4*numbers)
	for i := range n {
		add(fmt.Sprintf("net/data/k%d", i), zeros)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	// Cut all but the first storage out, and let the directory's entries all lead there.
	data := b.Bytes()
	first := bytes.Index(data, []byte("net/data/k0")) - 30
	second := bytes.Index(data, []byte("net/data/k1")) - 30
	directory := bytes.Index(data, []byte("PK\x01\x02"))
	short := append(slices.Clone(data[:second]), data[directory:]...)
	gone := directory - second
	for at := second; ; {
		i := bytes.Index(short[at:], []byte("PK\x01\x02"))
		if i < 0 {
			break
		}
		at += i
		if name := short[at+46:]; bytes.HasPrefix(name, []byte("net/data/k")) {
			binary.LittleEndian.PutUint32(short[at+42:], uint32(first))
		}
		at += 46
	}
	end := bytes.LastIndex(short, []byte("PK\x05\x06"))
	binary.LittleEndian.PutUint32(short[end+16:], uint32(directory-gone))
	return short
}

// refused reads what has to be refused, within 100 MB.
func refused(t *testing.T, data []byte, cause string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := checkpoint.Read(data)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), cause) {
		t.Errorf("the error is %v, and should say %q", err, cause)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
		t.Errorf("%d MiB were allocated for it", n>>20)
	}
}

// Reading anything ends, with an error or with tensors that lie within the file.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*t*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, p := range pickles() {
		if len(p.pickle) < 10<<10 {
			f.Add(archived(f, zip.Store, p.pickle))
			// The same as the program of a legacy file.
			f.Add([]byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}." + p.pickle + "\x80\x02]" + text("0") + "a." + "\x04\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x00\x00\x80?", 4)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := checkpoint.Read(data)
		if err != nil {
			return
		}
		for i := range c.Tensors {
			tensor := &c.Tensors[i]
			if tensor.Elements() > len(data) {
				t.Fatalf("%s has %d elements, in a file of %d bytes", tensor.Name, tensor.Elements(), len(data))
			}
			if n := len(tensor.Bytes()); n != tensor.Elements()*tensor.Type.Bits()/8 {
				t.Fatalf("%s has %d bytes for %v of %v", tensor.Name, n, tensor.Shape, tensor.Type)
			}
		}
	})
}
