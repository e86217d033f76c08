# Net::SMTP::Server for C++ -- build, check, run, bench, install.
#
#   make                 library and examples (build/)         make check     all tests
#   make run             the relay on 127.0.0.1:2525           make bench     side by side with peers
#   make deps            installs what is missing              make install   PREFIX=/usr/local DESTDIR=
#   make format lint     clang-format, clang-tidy, layers      make clean
#
# CXX=clang++ and SANITIZE=address,undefined (or thread) build apart, under build/CXX-SANITIZE.

VERSION  := 0.1.0
SOVERSION := 0
CXX      ?= g++
ifeq ($(origin CXX),default)
CXX      := g++
endif
PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
CXXFLAGS ?= -O2 -g
SANITIZE ?=

variant := $(if $(filter g++,$(CXX)),,$(notdir $(CXX)))$(if $(SANITIZE),-$(SANITIZE))
# What is run is told in a word; V=1 shows it whole.
Q       := $(if $(V),,@)
say      = $(if $(V),,@echo '  $(1) $@')
comma   := ,
B       := build$(if $(variant),/$(patsubst -%,%,$(subst $(comma),-,$(variant))))

flags   := -std=c++20 -fPIC -pthread -Wall -Wextra -Wpedantic -Wshadow -Werror $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
include := -Ibuild/include
name    := net-smtp-server

sources  := $(wildcard Server/*.cpp Server/Plugins/*.cpp Relay/*.cpp)
objects  := $(sources:%.cpp=$(B)/o/%.o)
static   := $(B)/lib$(name).a
shared   := $(B)/lib$(name).so.$(VERSION)
examples := $(patsubst %.cpp,$(B)/%,$(wildcard examples/*.cpp))
tests    := $(patsubst %.cpp,$(B)/o/%.o,$(wildcard t/*.cpp))
benches  := $(patsubst t/bench/%.cpp,$(B)/bench/%,$(wildcard t/bench/*.cpp))
# Our own headers that only our own .cpp files may see.
private  := Server/Shared.hpp Server/Content.hpp Server/Files.hpp Server/Socket.hpp Server/Pipeline.hpp Server/Memory.hpp Server/Text.hpp Server/Body.hpp
headers  := $(filter-out $(private),$(wildcard Server/*.hpp Server/Plugins/*.hpp Relay/*.hpp))

.PHONY: all check run deps bench install format lint clean test tests-built print-headers print-private print-build print-build
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

all: $(static) $(shared) $(examples)

# <Net/SMTP/Server.hpp> means the same in the tree and installed.
build/include/Net/SMTP:
	@mkdir -p build/include/Net
	@ln -sfn ../../.. $@

$(B)/o/%.o: %.cpp | build/include/Net/SMTP
	@mkdir -p $(@D)
	$(call say,compile)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $(CPPFLAGS) $(include) -MMD -MP -c $< -o $@

# Tests are slow to optimize, above all under a sanitizer, and gain nothing by it. What measures does.
$(B)/o/t/%.o: CXXFLAGS := -O0 -g1
$(B)/o/t/bench/%.o: CXXFLAGS := -O2 -g
$(B)/o/t/text.o: CXXFLAGS := -O1 -g1

.SECONDARY:

# A file that has gone must leave the archive too: it is made anew when the list changes.
$(shell mkdir -p $(B); echo '$(objects)' | cmp -s - $(B)/objects.list || echo '$(objects)' > $(B)/objects.list)

$(static): $(objects) $(B)/objects.list
	@rm -f $@
	$(call say,archive)
	$(Q)ar rcs $@ $(objects)

$(shared): $(objects) $(B)/objects.list
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) -shared -Wl,-soname,lib$(name).so.$(SOVERSION) $(objects) -o $@ $(LDFLAGS)
	@ln -sf $(@F) $(B)/lib$(name).so.$(SOVERSION)
	@ln -sf $(@F) $(B)/lib$(name).so

$(B)/examples/%: $(B)/o/examples/%.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(static) -o $@ $(LDFLAGS) $(if $(shell grep '<Poco/' examples/$*.cpp),-lPocoNet -lPocoFoundation)

$(B)/t/check: $(tests) $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $(tests) $(static) -o $@ $(LDFLAGS) -lPocoNet -lPocoFoundation

$(B)/bench/%: $(B)/o/t/bench/%.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(static) -o $@ $(LDFLAGS)

-include $(shell find $(B)/o -name '*.d' 2>/dev/null)

deps:
	@t/deps all

# ---- the two commands ----

LISTEN ?= 127.0.0.1:2525
run:
	@t/deps build
	@$(MAKE) --no-print-directory $(B)/examples/demo $(B)/examples/relay
	$(if $(RELAY),$(B)/examples/relay --listen $(LISTEN) --via $(RELAY),$(B)/examples/demo --listen $(LISTEN) --dir build/mail) $(if $(TRUSTED),--trusted '$(TRUSTED)')

check: deps
	@$(MAKE) --no-print-directory all tests-built
	@BUILD=$(B) t/all

tests-built: $(B)/t/check all

# The unit tests alone.
test: $(B)/t/check
	$(B)/t/check

bench: deps
	@$(MAKE) --no-print-directory $(B)/examples/sink $(benches)
	t/bench/compare

# ---- install ----

install: $(static) $(shared)
	install -d $(DESTDIR)$(PREFIX)/include/Net/SMTP/Server $(DESTDIR)$(PREFIX)/include/Net/SMTP/Relay
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/cmake/$(name)
	install -m 644 Server.hpp Poco.hpp $(DESTDIR)$(PREFIX)/include/Net/SMTP/
	install -m 644 $(filter Server/%,$(headers)) $(DESTDIR)$(PREFIX)/include/Net/SMTP/Server/
	install -m 644 $(filter Relay/%,$(headers)) $(DESTDIR)$(PREFIX)/include/Net/SMTP/Relay/
	install -m 644 $(static) $(DESTDIR)$(LIBDIR)/
	install -m 755 $(shared) $(DESTDIR)$(LIBDIR)/
	ln -sf $(notdir $(shared)) $(DESTDIR)$(LIBDIR)/lib$(name).so.$(SOVERSION)
	ln -sf $(notdir $(shared)) $(DESTDIR)$(LIBDIR)/lib$(name).so
	printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' 'libdir=$(LIBDIR)' '' 'Name: $(name)' \
	  'Description: SMTP server toolkit: receive, inspect, refuse, store and relay mail' 'Version: $(VERSION)' \
	  'Cflags: -I$${includedir} -pthread' 'Libs: -L$${libdir} -l$(name) -pthread' \
	  > $(DESTDIR)$(LIBDIR)/pkgconfig/$(name).pc
	sed -e 's|@PREFIX@|$(PREFIX)|g; s|@LIBDIR@|$(LIBDIR)|g; s|@VERSION@|$(VERSION)|g' t/install/config.cmake.in \
	  > $(DESTDIR)$(LIBDIR)/cmake/$(name)/$(name)-config.cmake
	sed -e 's|@VERSION@|$(VERSION)|g' t/install/config-version.cmake.in \
	  > $(DESTDIR)$(LIBDIR)/cmake/$(name)/$(name)-config-version.cmake

# ---- care ----

code := $(wildcard *.hpp Server/*.[ch]pp Relay/*.[ch]pp examples/*.[ch]pp t/*.[ch]pp t/bench/*.[ch]pp)
format:
	clang-format -i $(code)

lint:
	@t/lint

print-headers:
	@echo $(headers)
print-build:
	@echo $(B)
print-private:
	@echo $(private) ''

clean:
	rm -rf build/o build/examples build/t build/bench build/clang++* build/address* build/thread* build/lib$(name)* build/objects.list
