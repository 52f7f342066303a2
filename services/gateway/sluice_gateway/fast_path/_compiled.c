/* What interpreted.py does, compiled: see there for what it is. One call hands out a whole step.
 *
 * tests/gateway/test_fast_path.py holds both to the same answers, byte for byte.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

/* Longer texts than this are not kept on the stack while they are escaped. */
#define SHORT_TEXT 512
/* The most bytes that one byte of text takes in JSON: \u00XX. */
#define ESCAPED_MAX 6
/* A chunk's length in hexadecimal, with its line end, and the end of the chunk. */
#define LENGTH_MAX 20

typedef struct {
    PyObject_HEAD
    PyObject *texts;      /* a list or tuple: str or None by token id */
    PyObject *stop_ids;   /* a frozenset */
    PyObject *before;     /* bytes */
    PyObject *after;      /* bytes */
    PyObject *cycle;      /* uvicorn's, of the request */
    PyObject *flow;       /* uvicorn's, of the connection */
    PyObject *is_closing; /* the transport's method */
    PyObject *write;      /* the transport's method */
    PyObject *intervals;
    PyObject *on_trouble;
    double last;
    Py_ssize_t tokens;
    Py_ssize_t sent;
    int is_open;
} FastPath;

static PyObject *name_add, *name_cycle, *name_disconnected, *name_fast_path, *name_finish,
    *name_flow, *name_ids, *name_is_closing, *name_transport, *name_write, *name_write_paused;

/* Lifetime */

static int traverse(FastPath *self, visitproc visit, void *arg) {
    Py_VISIT(self->texts);
    Py_VISIT(self->stop_ids);
    Py_VISIT(self->cycle);
    Py_VISIT(self->flow);
    Py_VISIT(self->is_closing);
    Py_VISIT(self->write);
    Py_VISIT(self->intervals);
    Py_VISIT(self->on_trouble);
    return 0;
}

static int clear(FastPath *self) {
    self->is_open = 0; /* what is needed to make a chunk is gone */
    Py_CLEAR(self->texts);
    Py_CLEAR(self->stop_ids);
    Py_CLEAR(self->before);
    Py_CLEAR(self->after);
    Py_CLEAR(self->cycle);
    Py_CLEAR(self->flow);
    Py_CLEAR(self->is_closing);
    Py_CLEAR(self->write);
    Py_CLEAR(self->intervals);
    Py_CLEAR(self->on_trouble);
    return 0;
}

static void dealloc(FastPath *self) {
    PyObject_GC_UnTrack(self);
    clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int take_writer(FastPath *self, PyObject *writer) {
    PyObject *transport = PyObject_GetAttr(writer, name_transport);
    if (transport == NULL)
        return -1;
    if ((self->cycle = PyObject_GetAttr(writer, name_cycle)) != NULL &&
        (self->flow = PyObject_GetAttr(self->cycle, name_flow)) != NULL &&
        (self->is_closing = PyObject_GetAttr(transport, name_is_closing)) != NULL)
        self->write = PyObject_GetAttr(transport, name_write);
    Py_DECREF(transport);
    return self->write == NULL ? -1 : 0;
}

static int init(FastPath *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"texts", "stop_ids", "around", "writer", "intervals", "on_trouble", NULL};
    PyObject *texts, *stop_ids, *before, *after, *writer, *intervals, *on_trouble;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!(SS)OOO", names, &texts, &PyFrozenSet_Type,
                                     &stop_ids, &before, &after, &writer, &intervals, &on_trouble))
        return -1;
    clear(self);
    self->last = 0.0;
    self->tokens = self->sent = 0;
    self->stop_ids = Py_NewRef(stop_ids);
    self->before = Py_NewRef(before);
    self->after = Py_NewRef(after);
    self->intervals = Py_NewRef(intervals);
    self->on_trouble = Py_NewRef(on_trouble);
    self->texts = PySequence_Fast(texts, "texts: expected a sequence");
    if (self->texts == NULL || take_writer(self, writer) < 0) {
        clear(self); /* half made it must not be of use */
        return -1;
    }
    return 0;
}

/* Chunks */

static char *escape_byte(char *to, unsigned char byte) {
    static const char digits[] = "0123456789abcdef";
    *to++ = '\\';
    switch (byte) {
    case '\n': *to++ = 'n'; return to;
    case '\r': *to++ = 'r'; return to;
    case '\t': *to++ = 't'; return to;
    case '\b': *to++ = 'b'; return to;
    case '\f': *to++ = 'f'; return to;
    case '"':
    case '\\': *to++ = (char)byte; return to;
    }
    memcpy(to, "u00", 3);
    to[3] = digits[byte >> 4];
    to[4] = digits[byte & 15];
    return to + 5;
}

/* The text as JSON, quotes included, without a line end of any kind; returns its end. */
static char *quote(char *to, const char *text, Py_ssize_t size) {
    *to++ = '"';
    for (Py_ssize_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte < 0x20 || byte == '"' || byte == '\\') {
            to = escape_byte(to, byte);
        } else if (byte == 0xc2 && (unsigned char)text[i + 1] == 0x85) {
            memcpy(to, "\\u0085", 6);
            to += 6;
            i += 1;
        } else if (byte == 0xe2 && (unsigned char)text[i + 1] == 0x80 &&
                   ((unsigned char)text[i + 2] | 1) == 0xa9) {
            memcpy(to, (unsigned char)text[i + 2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
            to += 6;
            i += 2;
        } else {
            *to++ = (char)byte;
        }
    }
    *to++ = '"';
    return to;
}

/* A chunk of an HTTP body with a chunk of a stream in it. */
static PyObject *framed(FastPath *self, const char *json, Py_ssize_t size) {
    Py_ssize_t before = PyBytes_GET_SIZE(self->before), after = PyBytes_GET_SIZE(self->after);
    char length[LENGTH_MAX];
    int digits = PyOS_snprintf(length, sizeof length, "%zx\r\n", (size_t)(before + size + after));
    PyObject *made = PyBytes_FromStringAndSize(NULL, digits + before + size + after + 2);
    if (made == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(made);
    memcpy(to, length, digits);
    memcpy(to += digits, PyBytes_AS_STRING(self->before), before);
    memcpy(to += before, json, size);
    memcpy(to += size, PyBytes_AS_STRING(self->after), after);
    memcpy(to + after, "\r\n", 2);
    return made;
}

static PyObject *chunk_of_text(FastPath *self, PyObject *text) {
    Py_ssize_t size;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &size);
    if (bytes == NULL)
        return NULL;
    char small[SHORT_TEXT * ESCAPED_MAX + 2], *json = small;
    if (size > SHORT_TEXT && (json = PyMem_Malloc(size * ESCAPED_MAX + 2)) == NULL)
        return PyErr_NoMemory();
    PyObject *made = framed(self, json, quote(json, bytes, size) - json);
    if (json != small)
        PyMem_Free(json);
    return made;
}

/* The chunk of a token in *chunk. 1: there is one, 0: the token goes the long way, -1: an error. */
static int chunk_of_token(FastPath *self, PyObject *token, PyObject **chunk) {
    int stops = self->is_open ? PySet_Contains(self->stop_ids, token) : 1;
    if (stops)
        return stops < 0 ? -1 : 0;
    Py_ssize_t id = PyLong_AsSsize_t(token);
    if (id == -1 && PyErr_Occurred())
        return -1;
    if (id < 0 || id >= PySequence_Fast_GET_SIZE(self->texts))
        return 0;
    PyObject *text = PySequence_Fast_GET_ITEM(self->texts, id);
    if (!PyUnicode_Check(text) || PyUnicode_GET_LENGTH(text) == 0)
        return 0;
    *chunk = chunk_of_text(self, text);
    return *chunk == NULL ? -1 : 1;
}

/* Writing */

static int is_true(PyObject *of, PyObject *name) {
    PyObject *value = name ? PyObject_GetAttr(of, name) : PyObject_CallNoArgs(of);
    if (value == NULL)
        return -1;
    int truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

/* As BodyWriter does. 1: the client keeps up, 0: it does not, -1: an error. */
static int write_chunk(FastPath *self, PyObject *chunk) {
    int gone = is_true(self->cycle, name_disconnected);
    if (gone == 0)
        gone = is_true(self->is_closing, NULL);
    if (gone)
        return gone;
    PyObject *written = PyObject_CallOneArg(self->write, chunk);
    if (written == NULL)
        return -1;
    Py_DECREF(written);
    int paused = is_true(self->flow, name_write_paused);
    return paused < 0 ? -1 : !paused;
}

/* Send a chunk, and tell of trouble. -1: telling of it failed. */
static int put(FastPath *self, PyObject *chunk) {
    if (self->write == NULL) /* taken apart by the garbage collector */
        return 0;
    self->sent++;
    int keeps_up = write_chunk(self, chunk);
    if (keeps_up > 0)
        return 0;
    PyObject *type = NULL, *error = NULL, *traceback = NULL;
    if (keeps_up < 0) {
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (error != NULL && !PyObject_TypeCheck(error, (PyTypeObject *)PyExc_Exception)) {
            PyErr_Restore(type, error, traceback); /* not the stream's: an interrupt, say */
            return -1;
        }
        if (error != NULL && traceback != NULL)
            PyException_SetTraceback(error, traceback);
    }
    self->is_open = 0;
    PyObject *told = PyObject_CallOneArg(self->on_trouble, error ? error : Py_None);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    if (told == NULL)
        return -1;
    Py_DECREF(told);
    return 0;
}

/* A step */

static PyTypeObject FastPathType;

typedef struct {
    PyObject *rows;
    double now;
    PyObject *long_way;
    Py_ssize_t count; /* of the following, each owned */
    FastPath **paths;
    PyObject **chunks;
    /* Rows in step have the same interval: they are noted together. */
    PyObject *intervals;
    double interval;
    Py_ssize_t same;
} Step;

static int note_intervals(Step *step) {
    if (step->same == 0)
        return 0;
    PyObject *seconds = PyFloat_FromDouble(step->interval * (double)step->same);
    PyObject *tokens = PyLong_FromSsize_t(step->same), *noted = NULL;
    if (seconds != NULL && tokens != NULL)
        noted = PyObject_CallMethodObjArgs(step->intervals, name_add, seconds, tokens, NULL);
    Py_XDECREF(seconds);
    Py_XDECREF(tokens);
    Py_XDECREF(noted);
    Py_CLEAR(step->intervals);
    step->same = 0;
    return noted == NULL ? -1 : 0;
}

static int count_token(Step *step, FastPath *path) {
    double interval = step->now - path->last;
    if (step->same && (interval != step->interval || path->intervals != step->intervals) &&
        note_intervals(step) < 0)
        return -1;
    if (step->same++ == 0) {
        step->intervals = Py_NewRef(path->intervals);
        step->interval = interval;
    }
    path->last = step->now;
    path->tokens++;
    return 0;
}

static int append_id(PyObject *row, PyObject *token) {
    PyObject *ids = PyObject_GetAttr(row, name_ids);
    int failed = ids == NULL || PyList_Append(ids, token) < 0;
    Py_XDECREF(ids);
    return failed ? -1 : 0;
}

/* As chunk_of_token, with the row's path in *path if there is a chunk. */
static int try_short_way(PyObject *row, PyObject *token, FastPath **path, PyObject **chunk) {
    PyObject *found = PyObject_GetAttr(row, name_fast_path), *finish = NULL;
    int made = found == NULL ? -1 : 0;
    if (made == 0 && Py_IS_TYPE(found, &FastPathType)) {
        finish = PyObject_GetAttr(row, name_finish);
        made = finish == NULL ? -1 : 0;
        if (finish == Py_None && (made = chunk_of_token((FastPath *)found, token, chunk)) != 1)
            ((FastPath *)found)->is_open = 0; /* what comes behind must not overtake it */
    }
    Py_XDECREF(finish);
    if (made == 1)
        *path = (FastPath *)found;
    else
        Py_XDECREF(found);
    return made;
}

static int take(Step *step, PyObject *row, PyObject *token) {
    FastPath *path;
    PyObject *chunk;
    if (append_id(row, token) < 0)
        return -1;
    int made = try_short_way(row, token, &path, &chunk);
    if (made <= 0)
        return made < 0 ? -1 : PyList_Append(step->long_way, row);
    step->paths[step->count] = path;
    step->chunks[step->count++] = chunk;
    return count_token(step, path);
}

static int take_all(Step *step, PyObject *row_ids, PyObject *token_ids) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(row_ids); i++) {
        PyObject *row = PyDict_GetItemWithError(step->rows, PyTuple_GET_ITEM(row_ids, i));
        if (row == NULL) {
            if (PyErr_Occurred())
                return -1;
            continue;
        }
        Py_INCREF(row);
        int failed = take(step, row, PyTuple_GET_ITEM(token_ids, i));
        Py_DECREF(row);
        if (failed < 0)
            return -1;
    }
    return note_intervals(step);
}

static int put_all(Step *step) {
    for (Py_ssize_t i = 0; i < step->count; i++)
        if (put(step->paths[i], step->chunks[i]) < 0)
            return -1;
    return 0;
}

static int run(Step *step, PyObject *row_ids, PyObject *token_ids) {
    Py_ssize_t size = PyTuple_GET_SIZE(row_ids);
    if (size != PyTuple_GET_SIZE(token_ids)) {
        PyErr_SetString(PyExc_ValueError, "row_ids and token_ids: expected as many of each");
        return -1;
    }
    step->long_way = PyList_New(0);
    step->paths = PyMem_New(FastPath *, size + 1);
    step->chunks = PyMem_New(PyObject *, size + 1);
    if (step->long_way == NULL)
        return -1;
    if (step->paths == NULL || step->chunks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return take_all(step, row_ids, token_ids) < 0 || put_all(step) < 0 ? -1 : 0;
}

static PyObject *deliver(PyObject *module, PyObject *args) {
    Step step = {0};
    PyObject *row_ids, *token_ids;
    if (!PyArg_ParseTuple(args, "O!OOd", &PyDict_Type, &step.rows, &row_ids, &token_ids, &step.now))
        return NULL;
    row_ids = PySequence_Tuple(row_ids); /* copies: what is called meanwhile cannot change them */
    token_ids = row_ids ? PySequence_Tuple(token_ids) : NULL;
    int failed = token_ids == NULL || run(&step, row_ids, token_ids) < 0;
    for (Py_ssize_t i = 0; i < step.count; i++) {
        Py_DECREF(step.paths[i]);
        Py_DECREF(step.chunks[i]);
    }
    PyMem_Free(step.paths);
    PyMem_Free(step.chunks);
    Py_XDECREF(step.intervals);
    Py_XDECREF(row_ids);
    Py_XDECREF(token_ids);
    if (failed)
        Py_CLEAR(step.long_way);
    return step.long_way;
}

/* What Python sees */

static PyObject *open_path(FastPath *self, PyObject *last) {
    double seconds = PyFloat_AsDouble(last);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    self->last = seconds;
    self->is_open = self->write != NULL;
    Py_RETURN_NONE;
}

static PyObject *close_path(FastPath *self, PyObject *unused) {
    Py_ssize_t tokens = self->tokens;
    self->is_open = 0;
    self->tokens = 0;
    return Py_BuildValue("nd", tokens, self->last);
}

static PyMethodDef methods[] = {
    {"open", (PyCFunction)open_path, METH_O, "Take what comes now."},
    {"close", (PyCFunction)close_path, METH_NOARGS, "Take nothing any more."},
    {NULL},
};

static PyMemberDef members[] = {
    {"tokens", T_PYSSIZET, offsetof(FastPath, tokens), READONLY,
     "Tokens that went this way since it was opened."},
    {"sent", T_PYSSIZET, offsetof(FastPath, sent), READONLY, "Chunks that were sent."},
    {NULL},
};

static PyTypeObject FastPathType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sluice_gateway.fast_path._compiled.FastPath",
    .tp_doc = "See interpreted.py.",
    .tp_basicsize = sizeof(FastPath),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)init,
    .tp_dealloc = (destructor)dealloc,
    .tp_traverse = (traverseproc)traverse,
    .tp_clear = (inquiry)clear,
    .tp_methods = methods,
    .tp_members = members,
};

static PyMethodDef functions[] = {
    {"deliver", deliver, METH_VARARGS, "See interpreted.py."},
    {NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "sluice_gateway.fast_path._compiled", "See interpreted.py.", -1, functions,
};

static int make_names(void) {
    struct {
        PyObject **name;
        const char *text;
    } all[] = {
        {&name_add, "add"}, {&name_cycle, "cycle"}, {&name_disconnected, "disconnected"},
        {&name_fast_path, "fast_path"}, {&name_finish, "finish"}, {&name_flow, "flow"},
        {&name_ids, "ids"}, {&name_is_closing, "is_closing"}, {&name_transport, "transport"},
        {&name_write, "write"}, {&name_write_paused, "write_paused"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if ((*all[i].name = PyUnicode_InternFromString(all[i].text)) == NULL)
            return -1;
    return 0;
}

PyMODINIT_FUNC PyInit__compiled(void) {
    if (make_names() < 0 || PyType_Ready(&FastPathType) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddObjectRef(module, "FastPath", (PyObject *)&FastPathType) < 0)
        Py_CLEAR(module);
    return module;
}
