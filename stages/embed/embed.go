package embed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"github.com/x448/float16"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Info declares the stage.
func Info() pipeline.Info {
	words := func(list ...string) []string { return list }
	return pipeline.Info{
		Name:  "embed",
		Short: "Makes a vector of every image with a neural network.",
		Long: `Runs a network (an ONNX file that takes pictures) on every image and sets what it gives as a vector of length 1 (L2-normalised), for dedup, for later stages and for the manifest. All values of the network's output are taken, whatever its shape. Of a pair, the high-quality image is embedded; transparent pixels count with the colour they have.

Size, channels, layout and element type are read from the network's file. What it cannot tell is how pictures are prepared: preset has that of known networks, and the other fields replace parts of it. A network of which nothing is known gets red, green and blue in 0..1, squashed to the size that it wants. The prepared pictures are those of Pillow and torchvision.

With device: gpu it runs on all NVIDIA GPUs, if the ONNX Runtime in use can, and with device: gpu:1 on that one; with device: auto, and without a device, it takes the GPUs where there are some that can be used and the CPU otherwise, also for pictures that have no room on a GPU.

The run is repeatable to within what the network's kernels differ by for batches of different sizes, about 1e-6 of a component.`,
		Examples: []pipeline.Example{
			{Doc: "A CLIP network, on the GPUs that can be used and else on the CPU.", YAML: "embed: {model: ./clip-vit-b32.onnx, preset: clip}"},
			{Doc: "A network of which nothing is known, on all GPUs, with vectors that take half the room.", YAML: "device: gpu\nembed:\n  model: ./dino.onnx\n  mean: [0.485, 0.456, 0.406]\n  std: [0.229, 0.224, 0.225]\n  dtype: float16"},
		},
		Fields: []pipeline.Field{
			{Name: "model", Type: pipeline.FieldPath, Required: true, Doc: "The network, an ONNX file. Results belong to its content, not to its name.", Examples: words("./clip-vit-b32.onnx")},
			{Name: "name", Type: pipeline.FieldString, Doc: "What the vector is called; by default like the file, without its extension."},
			{Name: "output", Type: pipeline.FieldString, Doc: "Which of the network's outputs, where it has several."},
			{Name: "preset", Type: pipeline.FieldEnum, Enum: model.Presets(), Doc: "How pictures are prepared, as the network of that name wants them."},
			{Name: "resize", Type: pipeline.FieldEnum, Enum: words(string(model.Squash), string(model.Shortest), string(model.NoResize)), Doc: "How pictures come to their size: squash to width x height, by the shortest side, or none."},
			{Name: "filter", Type: pipeline.FieldString, Doc: "The filter that resizes, bicubic by default.", Examples: words("bilinear", "bicubic", "lanczos")},
			{Name: "shorter", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The shorter side after resizing by the shortest side."},
			{Name: "width", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The width after squashing or cropping."},
			{Name: "height", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The height after squashing or cropping."},
			{Name: "crop", Type: pipeline.FieldEnum, Enum: words(string(model.Centre), string(model.NoCrop)), Doc: "What is cut out after resizing."},
			{Name: "multiple", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 12, Doc: "Both sides are made multiples of it, with a mirrored border, for networks that want that."},
			{Name: "layout", Type: pipeline.FieldEnum, Enum: words(string(model.NCHW), string(model.NHWC)), Doc: "The order of the axes, where the file leaves it open."},
			{Name: "channels", Type: pipeline.FieldEnum, Enum: words(string(model.RGB), string(model.BGR), string(model.Gray)), Doc: "The channels and their order."},
			{Name: "range", Type: pipeline.FieldEnum, Enum: words(string(model.ZeroToOne), string(model.MinusOneToOne), string(model.ZeroTo255)), Doc: "What black and white become, before mean and std."},
			{Name: "mean", Type: pipeline.FieldStrings, Doc: "Taken from each sample: one number, or one each for red, green and blue.", Examples: words("[0.485, 0.456, 0.406]")},
			{Name: "std", Type: pipeline.FieldStrings, Doc: "What each sample is divided by, after mean.", Examples: words("[0.229, 0.224, 0.225]")},
			{Name: "dtype", Type: pipeline.FieldEnum, Enum: words("float32", "float16"), Default: "float32", Doc: "How the vector is stored. float16 takes half the room and rounds components to 11 bits."},
			{Name: "decode", Type: pipeline.FieldEnum, Enum: words("exact", "fast"), Default: "exact", Doc: "fast decodes JPEGs at a smaller scale, at least twice the size that is wanted: quicker, and vectors differ a little."},
			{Name: "infer_batch", Type: pipeline.FieldInt, Unit: "images", Min: 1, Max: 4096, Cosmetic: true, Doc: "How many pictures one run of the network takes, at most. By default the governor finds out on a GPU, and on the CPU up to 8, or 4 where several runs go on at once (see threads). Pictures of different sizes go one by one."},
			{Name: "threads", Type: pipeline.FieldInt, Unit: "threads", Min: 0, Max: 1024, Default: "0", Cosmetic: true, Doc: "How many threads compute on the CPU; 0 is one for each core. They run a batch each; or several a batch, where memory is short or pictures come in different sizes."},
			{Name: "library", Type: pipeline.FieldPath, Cosmetic: true, Doc: "Another ONNX Runtime than the one that forgepipe brings: the path of libonnxruntime.so."},
		},
		Makes: func(c pipeline.Config) []pipeline.Made {
			return []pipeline.Made{{Name: name(c), Vector: true, Doc: "what the network makes of the image, of length 1"}}
		},
		Pure:    true,
		Waits:   true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

// name is that of the vector.
func name(c pipeline.Config) string {
	if n := c.String("name"); n != "" {
		return n
	}
	base := filepath.Base(c.String("model"))
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// Stage sets a vector.
type Stage struct {
	env     pipeline.Env
	file    *model.File
	name    string
	half    bool
	fast    bool
	sized   bool  // all pictures come to the network in one size
	asked   int   // infer_batch; 0: not given
	threads int   // of the CPU, that compute
	host    int64 // bytes of memory; 0: not known
	runtime model.Runtime
	place   model.Placement

	// How the work is divided, which depends on the place.
	lanes   int // batches that run at once
	batch   int // pictures in each
	session model.SessionOptions

	runner  *model.Runner // while open
	release func() error
}

var (
	_ pipeline.Stage      = (*Stage)(nil)
	_ pipeline.Opener     = (*Stage)(nil)
	_ pipeline.Closer     = (*Stage)(nil)
	_ pipeline.Coster     = (*Stage)(nil)
	_ pipeline.Batcher    = (*Stage)(nil)
	_ pipeline.Identifier = (*Stage)(nil)
	_ pipeline.Noter      = (*Stage)(nil)
	_ pipeline.Placer     = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	spec, err := specOf(c)
	if err != nil {
		return nil, err
	}
	f, err := model.Open(c.String("model"), model.FileOptions{Spec: spec, Output: c.String("output")})
	if err != nil {
		return nil, c.Errorf("model", 0, "%w", err)
	}
	r, err := model.OpenRuntime(c.String("library"))
	if err != nil {
		return nil, c.Errorf("library", 0, "%w: %w", pipeline.ErrLacking, err)
	}
	s := &Stage{
		runtime: r, place: model.Placement{Devices: []string{string(pipeline.Host)}},
		env: e, file: f, name: name(c),
		half: c.String("dtype") == "float16", fast: c.String("decode") == "fast", asked: int(c.Int("infer_batch")),
		threads: cmp.Or(int(c.Int("threads")), runtime.GOMAXPROCS(0)),
		session: model.SessionOptions{Library: c.String("library"), Log: e.Log},
	}
	s.sized = f.Spec.OutputSize(ordinary) == f.Spec.OutputSize(image.Pt(300, 900))
	if host, err := (memory.Host{}).Memory(); err == nil { // the plan says what is wrong
		s.host = host.Total
	}
	s.divide()
	return s, nil
}

// ordinary is the size of a picture of which nothing is known.
var ordinary = image.Pt(4000, 3000)

const (
	// defaultBatch is what a GPU is busy with, and several threads that share one run.
	defaultBatch = 8
	// laneBatch is the same for runs of one thread each. With ResNet-18 and ViT-B/32,
	// batches of 8 take 1 to 4 % less CPU time a picture, but twice the memory, and
	// leave cores idle for longer when the last pictures are prepared; those of 1, for
	// which the weights are read anew each time, take 4 to 18 % more than those of 8.
	laneBatch = 4
)

// divide decides how many batches run at once, of how many pictures, and with how many
// threads each. On the CPU threads that share a run wait for each other at each of its
// operators, so each has a run of its own where the pictures of all have room.
func (s *Stage) divide() {
	s.lanes, s.batch = 1, cmp.Or(s.file.Batch, s.asked, defaultBatch)
	switch {
	case !s.sized && s.file.Batch == 0:
		s.batch = 1 // each shape would hold a whole batch of pictures
	case s.sized && s.place.Devices[0] == string(pipeline.Host) && s.threads > 1:
		batch := cmp.Or(s.file.Batch, s.asked, laneBatch)
		if lanes := spread(s.threads, s.picturesAtOnce()/batch); lanes > 1 {
			s.lanes, s.batch = lanes, batch
		}
	}
	s.session.Concurrent, s.session.Threads = s.lanes, (s.threads+s.lanes-1)/s.lanes
}

// spread is how many runs there are, at most so many, when each has as few threads as
// possible.
func spread(threads, most int) int {
	each := (threads + max(most, 1) - 1) / max(most, 1)
	return (threads + each - 1) / each
}

// hostShare is the part of the host's memory that the pictures of all lanes may take.
const hostShare = 32

// picturesAtOnce is how many pictures have room in all lanes together. What the run may
// take of the host is not known before it is planned, and a plan without room for the
// lanes is refused: so they take little of what there is, and where that is too little,
// what one run of the default size takes.
func (s *Stage) picturesAtOnce() int {
	return max(defaultBatch, int(s.host/hostShare/(s.file.Spec.TensorBytes(ordinary)*activations)))
}

// specOf is what the configuration says of the preparation.
func specOf(c pipeline.Config) (model.Spec, error) {
	s, _ := model.Preset(c.String("preset"))
	for field, set := range map[string]func(string){
		"resize":   func(v string) { s.Resize = model.Resize(v) },
		"filter":   func(v string) { s.Filter = v },
		"crop":     func(v string) { s.Crop = model.Crop(v) },
		"layout":   func(v string) { s.Layout = model.Layout(v) },
		"channels": func(v string) { s.Channels = model.Channels(v) },
		"range":    func(v string) { s.Range = model.Range(v) },
	} {
		if v := c.String(field); v != "" {
			set(v)
		}
	}
	for field, v := range map[string]*int{"shorter": &s.Shorter, "width": &s.Width, "height": &s.Height, "multiple": &s.Multiple} {
		if c.IsSet(field) {
			*v = int(c.Int(field))
		}
	}
	for _, f := range []struct {
		name string
		v    *[3]float64
	}{{"mean", &s.Mean}, {"std", &s.Std}} {
		texts := c.Strings(f.name)
		if len(texts) == 0 {
			continue
		}
		if len(texts) != 1 && len(texts) != 3 {
			return s, c.Errorf(f.name, 0, "one number is wanted, or three: for red, green and blue")
		}
		for i := range f.v {
			at := min(i, len(texts)-1)
			x, err := strconv.ParseFloat(texts[at], 64)
			if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
				return s, c.ElementErrorf(f.name, at, "%q is no number", texts[at])
			}
			f.v[i] = x
		}
	}
	return s, nil
}

// Identity is the hash of the network.
func (s *Stage) Identity() string { return s.file.Hash }

// Batch is such that all lanes of the network have a batch, and one is being filled.
func (s *Stage) Batch() pipeline.BatchSpec {
	if s.runner == nil || !s.sized {
		return pipeline.BatchSpec{Size: s.batch}
	}
	together, most := s.runner.Wants(s.file.Spec.Shape(1, ordinary)[1:])
	return pipeline.BatchSpec{Size: most, Together: together}
}

// Place takes a GPU that the runtime can use, or the CPU.
func (s *Stage) Place(want pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	names := make([]string, len(have))
	for i, d := range have {
		names[i] = string(d)
	}
	p, err := s.runtime.Place(string(want), names)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pipeline.ErrLacking, err)
	}
	if p.Why != "" && (want == pipeline.Auto || len(have) > 0) {
		s.env.Log.Warn("the network runs on the CPU", "model", s.file.Path, "cause", p.Why)
	}
	s.place = p
	s.divide()
	devices := make([]pipeline.Device, len(p.Devices))
	for i, d := range p.Devices {
		devices[i] = pipeline.Device(d)
	}
	return devices, nil
}

// Note says where it ran, when that was to be found out.
func (s *Stage) Note() string {
	if s.place.Why == "" {
		return ""
	}
	return "ran on the CPU: " + s.place.Why
}

// Open takes a seat at the network's sessions, which stages of the same network and
// options share. They are loaded with the first batch.
func (s *Stage) Open(context.Context, pipeline.Device) error {
	key := fmt.Sprintf("model %s %s on %v, CPU too %t, %d lanes, batch %d most %d sized %t threads %d %s", s.file.Hash, s.file.Output.Name, s.place.Devices, s.place.CPUToo, s.lanes, s.asked, s.batch, s.sized, s.session.Threads, s.session.Library)
	v, release, err := s.env.Share(key, func() (any, func() error, error) {
		r := model.NewRunner(s.runnerOptions())
		return r, r.Close, nil
	})
	if err != nil {
		return err
	}
	s.runner, s.release = v.(*model.Runner), release
	return nil
}

func (s *Stage) runnerOptions() model.RunnerOptions {
	o := model.RunnerOptions{
		Type:  s.file.ElementType(),
		Batch: cmp.Or(s.file.Batch, s.asked), Fixed: s.file.Batch > 0, Shrink: !s.sized,
		Governor: s.env.Governor(),
		Name:     filepath.Base(s.file.Path), Log: s.env.Log,
	}
	if !s.sized {
		o.Batch = cmp.Or(s.file.Batch, 1)
	}
	// Without a bound the system would end the process where the runtime can say that
	// there is no more.
	host, cost, room := s.session, s.onHost(nil).Resident, max(s.env.HostRoom(), leastArena)
	host.Device, host.ArenaLimit = string(pipeline.Host), cost+room
	host.Concurrent = max(s.lanes, len(s.place.Devices))
	onHost := model.Shared(func(ctx context.Context) (model.Session, error) { return s.file.Load(ctx, host) })
	if s.place.Devices[0] == string(pipeline.Host) {
		o.Most = s.batch // the plan counts on that
		o.Seats = []model.Seat{{
			Device: string(pipeline.Host), Key: s.key(pipeline.Host), Open: onHost, Lanes: s.lanes,
			Budget: cost + room - s.file.Header.WeightBytes,
		}}
		return o
	}
	if s.place.CPUToo {
		o.Fallback = onHost
	}
	for _, d := range s.place.Devices {
		o.Seats = append(o.Seats, s.seat(pipeline.Device(d)))
	}
	return o
}

// seat is a GPU, or a simulated one.
func (s *Stage) seat(d pipeline.Device) model.Seat {
	session := s.session
	session.Device = string(d)
	seat := model.Seat{
		Device: string(d), Key: s.key(d), MostLanes: 2, // one computes while the other copies
		Open:   func(ctx context.Context) (model.Session, error) { return s.file.Load(ctx, session) },
		Ledger: s.env.Ledger(d), Weights: s.file.Header.WeightBytes,
		Scarce:   func() bool { return s.env.Scarce(d) },
		Courtesy: func() model.Courtesy { return s.env.Courtesy(d) },
	}
	if card, ok := s.env.Device(d).(*sim.Device); ok {
		// It is an arena on the CPU that is as large as the card.
		seat.Cap = func() int64 { return seat.Ledger.Usage().Limit }
		seat.Open = func(ctx context.Context) (model.Session, error) {
			capped := session
			capped.ArenaLimit = max(seat.Cap(), 1) // 0 would be none
			loaded, err := s.file.Load(ctx, capped)
			return model.Simulated(loaded, card), err
		}
	}
	return seat
}

// key is what runs on a device cost the same under.
func (s *Stage) key(d pipeline.Device) string {
	kind := fmt.Sprintf("%s of %d threads", runtime.GOARCH, runtime.NumCPU())
	if m, ok := s.env.Device(d).(memory.Described); ok {
		kind = m.Description()
	}
	return fmt.Sprintf("%s %s, %d lanes of %d threads, ONNX Runtime %s on %s", s.file.Hash, s.file.Output.Name, s.lanes, s.session.Threads, s.runtime.Version, kind)
}

// Close leaves the seat.
func (s *Stage) Close() error {
	if s.release == nil {
		return nil
	}
	return s.release()
}

// Process embeds the items. One that cannot be decoded, or of which the network
// makes no vector, fails.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	leave := s.runner.Enter()
	defer leave()
	inputs := make([]model.Input, len(batch))
	for i, it := range batch {
		inputs[i] = model.Input{Shape: s.file.Spec.Shape(1, it.Size())[1:], Fill: func(ctx context.Context, dst []byte) error { return s.fill(ctx, dst, it) }}
	}
	out := batch[:0:len(batch)]
	for i, r := range s.runner.Infer(ctx, inputs) {
		it := batch[i]
		var v pipeline.Vector
		var noRoom *model.NoRoomError
		err := r.Err
		if err == nil {
			v, err = s.vector(r.Outputs[0])
		}
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, model.ErrLoading):
			return nil, err // it is the same for all
		case errors.As(err, &noRoom) && noRoom.Now:
			it.Later(fmt.Errorf("embedding: %w", err))
		case err != nil:
			it.Fail(fmt.Errorf("embedding: %w", err))
		default:
			it.SetVector(v)
			out = append(out, it)
		}
	}
	return out, nil
}

// fill prepares one picture.
func (s *Stage) fill(ctx context.Context, dst []byte, it *pipeline.Item) error {
	least := s.file.Spec.Least(it.Size())
	if !s.fast || least == it.Size() {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		defer it.Done()
		return s.file.Spec.Fill(ctx, dst, f.Image)
	}
	f, place, err := it.ScaledFrame(ctx, least)
	if err != nil {
		return err
	}
	defer it.Done()
	return s.file.Spec.FillPart(ctx, dst, f.Image, model.Part{X: place.X, Y: place.Y, Scale: place.Scale, Size: it.Size()})
}

// vector is the output, brought to length 1.
func (s *Stage) vector(t *ort.Tensor) (pipeline.Vector, error) {
	var data []float32
	if t.Type == ort.Float16 {
		for _, bits := range unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(t.Data))), len(t.Data)/2) {
			data = append(data, float16.Frombits(bits).Float32())
		}
	} else {
		data = append(data, t.Float32s()...)
	}
	var sum float64
	for _, x := range data {
		sum += float64(x) * float64(x)
	}
	switch {
	case len(data) == 0:
		return pipeline.Vector{}, errors.New("the network gives no numbers")
	case math.IsNaN(sum) || math.IsInf(sum, 0):
		return pipeline.Vector{}, errors.New("the network gives numbers that are not finite: the picture may be prepared otherwise than it wants (see preset), or float16 is too narrow for it")
	case sum == 0:
		return pipeline.Vector{}, errors.New("the network gives nothing but zeros, which have no direction")
	}
	scale := 1 / math.Sqrt(sum)
	for i, x := range data {
		data[i] = float32(float64(x) * scale)
	}
	return pipeline.Vector{Name: s.name, Model: s.file.Hash, Half: s.half, Data: data}, nil
}

const (
	// activations is how many bytes a run needs at its peak for each byte of its input,
	// as long as nothing has been measured: VGG-16's first layers need 43, ResNet-18's 11.
	activations = 48
	// ownSize is the same for networks that take pictures at their own size. They are
	// made for that, and nobody knows beforehand how large the pictures are.
	ownSize = 4
	// leastArena is what a run gets beside the weights, however little room there is.
	leastArena = 64 << 20
)

// Cost is, where the network runs, that of its weights and of the runs in all lanes,
// which stay from the first batch on; a call adds its tensors, which are on the host.
func (s *Stage) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	switch {
	case d != pipeline.Host:
		return pipeline.Cost{Resident: s.file.Header.WeightBytes, Work: s.runBytes()}
	case strings.HasPrefix(s.place.Devices[0], "gpu:") && !s.place.CPUToo:
		c := s.onHost(batch)
		c.Resident = 0
		return c
	default: // simulated devices are the host's memory too
		return s.onHost(batch)
	}
}

// runBytes is what the runs of all lanes take together beside the weights, as far as
// that can be told beforehand.
func (s *Stage) runBytes() int64 {
	if s.sized {
		return int64(s.lanes*s.batch) * s.file.Spec.TensorBytes(ordinary) * activations
	}
	return ownSize * s.file.Spec.TensorBytes(ordinary)
}

func (s *Stage) onHost(batch []*pipeline.Item) pipeline.Cost {
	spec := s.file.Spec
	c := pipeline.Cost{Resident: s.file.Header.WeightBytes}
	each := func(src image.Point) int64 {
		if s.sized {
			return spec.TensorBytes(src)
		}
		return (1 + ownSize) * spec.TensorBytes(src)
	}
	if s.sized {
		c.Resident += s.runBytes()
	}
	if len(batch) == 0 {
		c.Work = each(ordinary) + spec.Bytes(ordinary)
	}
	var most int64
	for _, it := range batch {
		c.Work += each(it.Size())
		work := spec.Bytes(it.Size())
		if s.fast {
			scaled := it.ScaledSize(spec.Least(it.Size()))
			work += 4 * int64(scaled.X) * int64(scaled.Y)
		}
		most = max(most, work)
	}
	c.Work += most
	return c
}
