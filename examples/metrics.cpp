// metrics -- counts sessions and mails; Prometheus reads the numbers by HTTP, from Poco's server.
#include <Poco/Net/HTTPRequestHandler.h>
#include <Poco/Net/HTTPRequestHandlerFactory.h>
#include <Poco/Net/HTTPServer.h>
#include <Poco/Net/HTTPServerParams.h>
#include <Poco/Net/HTTPServerResponse.h>
#include <Poco/Net/ServerSocket.h>
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Counters.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

struct Page : Poco::Net::HTTPRequestHandler {
    explicit Page(std::string t) : text(std::move(t)) {}
    void handleRequest(Poco::Net::HTTPServerRequest&, Poco::Net::HTTPServerResponse& response) override {
        response.setContentType("text/plain; version=0.0.4");
        response.sendBuffer(text.data(), text.size());
    }
    const std::string text;
};

struct Pages : Poco::Net::HTTPRequestHandlerFactory {
    explicit Pages(const Counters& c) : counters(c) {}
    Poco::Net::HTTPRequestHandler* createRequestHandler(const Poco::Net::HTTPServerRequest&) override {
        return new Page(counters.prometheus("smtp"));  // Poco owns it
    }
    const Counters counters;
};

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Takes every mail, and serves its counters to Prometheus.",
                          {listening, {"--metrics", "HOST:PORT", "where HTTP is", "", "127.0.0.1:9125", is_address}});
    Server server(given.all("--listen"));
    const Counters counters;
    counters.listen(server.pipeline());

    const Poco::Net::ServerSocket socket(Poco::Net::SocketAddress(given("--metrics")));
    Poco::Net::HTTPServer http(new Pages(counters), socket, new Poco::Net::HTTPServerParams);
    http.start();
    std::printf("metrics on http://%s/metrics\n", socket.address().toString().c_str());
    ready(server);
    server.run([](Server::Client& client) { client.accept(); });
    http.stop();
}
