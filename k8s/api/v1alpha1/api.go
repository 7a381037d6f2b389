package v1alpha1

// API is a preset, or routes: a list of them, those of an OpenAPI document, or both.
//
// +kubebuilder:validation:XValidation:rule=`self.?preset.orValue("") == "" || self.?routes.orValue([]).size() == 0 && !has(self.openapi)`,message="both preset and routes, expected one of them; api.public adds public routes to a preset",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule=`self.?preset.orValue("") != "" || self.?routes.orValue([]).size() > 0 || has(self.openapi)`,message="no routes, expected api.preset, api.routes or api.openapi",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule=`!has(self.langgraph) || self.?preset.orValue("") == "langgraph"`,message="found options of preset langgraph without that preset, expected preset: langgraph",reason=FieldValueForbidden,fieldPath=".langgraph"
// +kubebuilder:validation:XValidation:rule=`self.?public.orValue([]).size() == 0 || self.?preset.orValue("") != ""`,message="public routes without a preset, expected public: true in api.routes",reason=FieldValueForbidden,fieldPath=".public"
type API struct {
	// Preset is a known API.
	// +kubebuilder:validation:Enum=langgraph;""
	Preset string `json:"preset,omitempty"`
	// LangGraph says how the server of preset langgraph is set up, and what of it the policy opens.
	LangGraph *LangGraph `json:"langgraph,omitempty"`
	// Public adds public routes to a preset's.
	// +kubebuilder:validation:MaxItems=256
	Public []PublicRoute `json:"public,omitempty"`
	// Routes of any other API. A request that no route matches is answered 404.
	// +kubebuilder:validation:MaxItems=5000
	Routes []Route `json:"routes,omitempty"`
	// OpenAPI is a document whose operations are routes, beside those in routes.
	OpenAPI *OpenAPI `json:"openapi,omitempty"`
}

// PublicRoute needs no token and carries no identity.
type PublicRoute struct {
	// Method, in capitals. A GET route answers HEAD too.
	// +kubebuilder:validation:Enum=GET;POST;PUT;PATCH;DELETE;OPTIONS
	Method string `json:"method"`
	// Path is a template: {name} is one segment, {name=**} at the end is the rest.
	// +kubebuilder:validation:Pattern=`^/`
	Path string `json:"path"`
}

// Route is a method and a path template, and what a request for it is about.
//
// +kubebuilder:validation:XValidation:rule=`(self.?method.orValue("") != "") != has(self.methods)`,message="found not just one of method and methods, expected method, or a list of methods",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule=`self.?public.orValue(false) || self.?on.orValue("") != ""`,message="expected resource:action, or public: true",reason=FieldValueRequired,fieldPath=".on"
// +kubebuilder:validation:XValidation:rule=`!self.?public.orValue(false) || self.?on.orValue("") == ""`,message="a public route with on, expected one of public and on",reason=FieldValueForbidden,fieldPath=".public"
// +kubebuilder:validation:XValidation:rule=`!self.?public.orValue(false) || !has(self.object) && !has(self.stampAt) && !has(self.narrow)`,message="a public route with object, stampAt or narrow, expected on: resource:action; nobody's objects can be told apart without a user",reason=FieldValueForbidden,fieldPath=".public"
// +kubebuilder:validation:XValidation:rule=`!has(self.narrow) || !has(self.object) && !has(self.stampAt)`,message="narrow beside object or stampAt, expected one of them; narrow is for a list, object and stampAt are for what a request touches or makes",reason=FieldValueForbidden,fieldPath=".narrow"
// +kubebuilder:validation:XValidation:rule=`!has(self.stampAt) || !has(self.method) || self.method in ["POST", "PUT", "PATCH", ""]`,message="stampAt on a method without a body, expected POST, PUT or PATCH",reason=FieldValueForbidden,fieldPath=".stampAt"
// +kubebuilder:validation:XValidation:rule=`!has(self.stampAt) || !has(self.methods) || !("GET" in self.methods) && !("DELETE" in self.methods) && !("OPTIONS" in self.methods)`,message="stampAt on a method without a body, expected POST, PUT or PATCH",reason=FieldValueForbidden,fieldPath=".stampAt"
type Route struct {
	// Method, in capitals. A GET route answers HEAD too.
	// +kubebuilder:validation:Enum=GET;POST;PUT;PATCH;DELETE;OPTIONS;""
	Method string `json:"method,omitempty"`
	// Methods are several, in place of method.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:items:Enum=GET;POST;PUT;PATCH;DELETE;OPTIONS
	// +kubebuilder:validation:items:MaxLength=7
	// +kubebuilder:validation:XValidation:rule=`self.all(m, self.exists_one(other, other == m))`,message="found a method twice, expected each once"
	Methods []string `json:"methods,omitempty"`
	// Path is a template: {name} is one segment, {name=**} at the end is the rest.
	// +kubebuilder:validation:Pattern=`^/`
	Path string `json:"path"`
	// Public routes need no token. Default: false.
	Public bool `json:"public,omitempty"`
	// On is "resource:action", for a route that is not public.
	// +kubebuilder:validation:Pattern=`^([A-Za-z_-][0-9A-Za-z_-]*:[A-Za-z_-][0-9A-Za-z_-]*)?$`
	On string `json:"on,omitempty"`
	// Object is the existing object that a request is about: filters are compared with its metadata.
	Object *RouteObject `json:"object,omitempty"`
	// StampAt is where in the JSON body a rule's stamp goes: "labels", "order.labels", "orders[].labels" (each element),
	// "." (the body itself), or a JSON Pointer.
	// +kubebuilder:validation:MinLength=1
	StampAt string `json:"stampAt,omitempty"`
	// Narrow is how a list is narrowed to what the rule allows.
	Narrow *Narrow `json:"narrow,omitempty"`
}

// RouteObject says where an object is looked up, and what of the answer is its metadata.
type RouteObject struct {
	// Get is the object's path at the backend, a template such as "/orders/{id}" with parameters of the route's path.
	// +kubebuilder:validation:Pattern=`^/`
	Get string `json:"get"`
	// ID is a CEL expression over value that gives {id}: a string, an integer, or a list of them, each of which is looked up.
	// Default: {id} of the route's path.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	ID string `json:"id,omitempty"`
	// Metadata is a CEL expression over body, the answer as JSON: the object that filters are compared with. Default:
	// body.metadata.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Metadata string `json:"metadata,omitempty"`
	// AnswerID is a CEL expression over body: what must equal the id. Default: nothing is compared.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	AnswerID string `json:"answerID,omitempty"`
}

// Narrow says what narrows a list.
type Narrow struct {
	// Query parameters and the CEL expressions of their values. They take the place of the client's own, however spelt.
	// One whose expression gives optional.none() is left to the client.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=64
	Query map[string]string `json:"query"`
}
